"""Files that would keep a decoder busy are refused by their number of pieces; sound ones of many pieces are read."""

from time import process_time

import pytest
from slow import busy_files, slow_files

from oodgate.errors import InvalidImage
from oodgate.images.decode import decode
from oodgate.settings import IMAGE_TYPES

FORMATS = tuple(IMAGE_TYPES)
LIMIT = 50_000_000
SLOW, BUSY = slow_files(), busy_files()
MOST_S = 3  # thrice what is promised, for a machine that does other things too


@pytest.mark.parametrize("name", SLOW)
def test_file_that_would_keep_a_decoder_busy_is_refused_soon(name: str) -> None:
    data, reason = SLOW[name]
    start = process_time()
    with pytest.raises(InvalidImage, match=f"{reason}.*; save it "):
        decode(data, LIMIT, FORMATS)
    assert process_time() - start < MOST_S


@pytest.mark.parametrize("name", BUSY)
def test_sound_file_of_many_pieces_is_read(name: str) -> None:
    decode(BUSY[name], LIMIT, FORMATS)

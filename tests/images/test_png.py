"""Small plain PNG files come out of the fast decoder as they come out of Pillow, to the bit, or not at all."""

from struct import pack
from typing import Any
from zlib import compress, crc32, decompress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from written import by_pillow, written

from oodgate.errors import InvalidImage, TooManyPixels
from oodgate.images import decode as module
from oodgate.images.decode import decode
from oodgate.images.png import decode_small

LIMIT = 1_000_000


def png(width: int = 31, height: int = 23, mode: str = "RGB", image_format: str = "PNG", **options: Any) -> bytes:
    return written(image_format, width, height, mode, **options)


def chunk(kind: bytes, content: bytes) -> bytes:
    return pack(">I", len(content)) + kind + content + pack(">I", crc32(kind + content))


def png_of(rows: bytes, width: int = 31, height: int = 23, form: bytes = b"\x08\x02\0\0\0", pieces: int = 1) -> bytes:
    """A PNG file whose checksums are right, whatever it consists of."""
    packed = compress(rows)
    size = -(-len(packed) // pieces)
    chunks = [chunk(b"IDAT", packed[start : start + size]) for start in range(0, len(packed), size)]
    header = chunk(b"IHDR", pack(">2I", width, height) + form)
    return b"".join([b"\x89PNG\r\n\x1a\n", header, *chunks, chunk(b"IEND", b"")])


def rows_of(data: bytes) -> bytes:
    """The filtered rows of a file that Pillow wrote."""
    return decompress(data[41:-16])


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 9), st.integers(1, 5))
def test_pixels_are_pillows_to_the_bit(width: int, height: int, level: int, pieces: int) -> None:
    written = png(width, height, compress_level=level)
    for data in (written, png_of(rows_of(written), width, height, pieces=pieces)):
        found = decode_small(data, LIMIT)
        assert found is not None
        np.testing.assert_array_equal(found, by_pillow(data))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=23, max_size=23), st.binary(min_size=93, max_size=93))
def test_every_filter_of_a_row_is_undone(filters: list[int], values: bytes) -> None:
    data = png_of(b"".join(bytes([kind]) + values for kind in filters))
    found = decode_small(data, LIMIT)
    assert found is not None
    np.testing.assert_array_equal(found, by_pillow(data))


@pytest.mark.parametrize(
    "data",
    [
        png(mode="L"),
        png(mode="P"),
        png(mode="RGBA"),
        png(mode="I;16"),
        png(transparency=(1, 2, 3)),
        png(pnginfo=PngInfo()) + b"more",
        png(save_all=True, append_images=[Image.new("RGB", (31, 23))]),
        png_of(rows_of(png()), form=b"\x08\x02\0\0\1"),
        png_of(rows_of(png()), form=b"\x10\x02\0\0\0"),
        png(300, 219),
        png(image_format="JPEG"),
        png(image_format="WEBP"),
        b"",
    ],
    ids=str,
)
def test_other_files_are_left_to_pillow(data: bytes) -> None:
    assert decode_small(data, LIMIT) is None


def test_a_file_with_more_than_pixels_is_left_to_pillow() -> None:
    text = PngInfo()
    text.add_text("Comment", "none")
    assert decode_small(png(pnginfo=text), LIMIT) is None


def test_more_pixels_than_allowed_are_refused_as_in_every_file() -> None:
    with pytest.raises(TooManyPixels, match="31 x 23"):
        decode(png(), 31 * 23 - 1, ["png"])
    assert decode(png(), 31 * 23, ["png"]).shape == (23, 31, 3)


def test_a_format_that_is_not_allowed_is_not_decoded() -> None:
    with pytest.raises(InvalidImage, match="allowed format"):
        decode(png(), LIMIT, ["jpeg"])


def test_small_plain_files_alone_take_the_fast_way(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[bool] = []

    def watched(data: bytes, max_pixels: int) -> np.ndarray | None:
        found = decode_small(data, max_pixels)
        taken.append(found is not None)
        return found

    monkeypatch.setattr(module, "decode_small", watched)
    for data in [png(), png(mode="L"), png(256, 256), png(257, 256)]:
        decode(data, LIMIT, ["jpeg", "png"])
    assert taken == [True, False, True, False]


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_a_damaged_file_is_left_to_pillow(data: st.DataObject) -> None:
    sound = png()
    damaged = bytearray(sound)
    for place in data.draw(st.lists(st.integers(0, len(sound) - 1), min_size=1, max_size=4, unique=True)):
        damaged[place] ^= data.draw(st.integers(1, 255))
    assert decode_small(bytes(damaged), LIMIT) is None


@pytest.mark.parametrize("cut", [1, 12, 13, 100])
def test_a_file_that_was_cut_is_left_to_pillow(cut: int) -> None:
    assert decode_small(png()[:-cut], LIMIT) is None


@pytest.mark.parametrize("missing", [1, 94, 94 * 22])
def test_rows_that_are_missing_are_left_to_pillow(missing: int) -> None:
    assert decode_small(png_of(rows_of(png())[:-missing]), LIMIT) is None


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_whatever_has_the_right_checksums_becomes_pillows_pixels_or_is_refused(data: st.DataObject) -> None:
    rows = bytearray(rows_of(png()))
    for row in data.draw(st.lists(st.integers(0, 22), max_size=3)):
        rows[row * 94] = data.draw(st.integers(0, 255))
    made = png_of(bytes(rows) + data.draw(st.binary(max_size=200)))
    found = decode_small(made, LIMIT)
    if found is not None:
        np.testing.assert_array_equal(found, by_pillow(made))

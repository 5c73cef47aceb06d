"""Frames come out of the stream as they were put in, however it is cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oodgate.fronts.wire import Frame, Frames, Kind, pack

FRAMES = st.lists(st.builds(Frame, st.sampled_from(Kind), st.integers(0, 2**32 - 1), st.binary(max_size=200)))


@given(FRAMES, st.lists(st.integers(1, 50)))
def test_a_stream_cut_anywhere_gives_its_frames_in_order(frames: list[Frame], cuts: list[int]) -> None:
    stream, reader, found = b"".join(pack(Kind(kind), *rest) for kind, *rest in frames), Frames(), []
    for size in [*cuts, len(stream)]:
        found += reader.feed(stream[:size])
        stream = stream[size:]
    assert found == frames


def test_parts_make_one_payload() -> None:
    assert list(Frames().feed(pack(Kind.ASK, 7, b"ab", b"", b"c"))) == [Frame(Kind.ASK, 7, b"abc")]


def test_a_length_beyond_the_bound_is_refused_before_its_bytes_come() -> None:
    with pytest.raises(ValueError, match="a frame announces 11 bytes, at most 10 are taken"):
        list(Frames(most_bytes=10).feed(pack(Kind.BODY, 1, bytes(11))[:9]))

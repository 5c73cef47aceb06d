"""Plain JPEG files come out of the fast decoder as they come out of Pillow, to the bit, or not at all."""

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hostile import jpeg_announcing
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from written import by_pillow, written

from oodgate.errors import InvalidImage, TooManyPixels
from oodgate.images import decode as module
from oodgate.images.decode import decode
from oodgate.images.jpeg import decode_plain, is_plain

LIMIT = 1_000_000


def jpeg(width: int = 61, height: int = 47, mode: str = "RGB", image_format: str = "JPEG", **options: Any) -> bytes:
    return written(image_format, width, height, mode, **options)


def opened_plainly(data: bytes) -> bool:
    with Image.open(BytesIO(data)) as image:
        return is_plain(image)


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.sampled_from(["RGB", "L"]),
    st.integers(1, 100),
    st.integers(0, 2),
    st.booleans(),
    st.integers(0, 5),
)
def test_pixels_are_pillows_to_the_bit(
    width: int, height: int, mode: str, quality: int, subsampling: int, progressive: bool, restart: int
) -> None:
    options: dict[str, Any] = {"quality": quality, "progressive": progressive, "restart_marker_blocks": restart}
    data = jpeg(width, height, mode, subsampling=subsampling if mode == "RGB" else -1, **options)
    assert opened_plainly(data)
    found = decode_plain(data, width, height)
    assert found is not None
    assert found.flags.writeable
    np.testing.assert_array_equal(found, by_pillow(data))


@pytest.mark.parametrize("cut", [1, 2, 3, 100])
def test_a_file_that_was_cut_is_left_to_pillow(cut: int) -> None:
    assert decode_plain(jpeg()[:-cut], 61, 47) is None


@pytest.mark.parametrize("size", [(60, 47), (61, 46), (62, 47), (61, 48), (47, 61), (1, 1)])
def test_a_size_that_is_not_the_files_is_left_to_pillow(size: tuple[int, int]) -> None:
    assert decode_plain(jpeg(), *size) is None


def test_memory_is_bounded_by_the_size_that_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    made, empty = [], np.empty
    monkeypatch.setattr(np, "empty", lambda shape, *rest: made.append(shape) or empty(shape, *rest))
    assert decode_plain(jpeg_announcing(65_500, 65_500), 8, 8) is None
    assert made == [(8, 8, 3)]


@pytest.mark.parametrize(
    "data",
    [jpeg(mode="CMYK"), jpeg(image_format="PNG"), jpeg(image_format="WEBP"), jpeg(keep_rgb=True)],
    ids=["CMYK", "PNG", "WebP", "red-green-blue"],
)
def test_other_files_are_not_plain(data: bytes) -> None:
    assert not opened_plainly(data)


def test_plain_files_alone_take_the_fast_way(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []
    monkeypatch.setattr(module, "decode_plain", lambda data, *size: asked.append(data) or decode_plain(data, *size))
    turned = Image.Exif()
    turned[0x0112] = 6
    files = [jpeg(), jpeg(mode="L"), jpeg(mode="CMYK"), jpeg(exif=turned), jpeg(image_format="PNG")]
    for data in files:
        decode(data, LIMIT, ["jpeg", "png"])
    assert asked == files[:2]


@settings(max_examples=500, deadline=None)
@given(st.sampled_from([jpeg(), jpeg(progressive=True), jpeg(mode="L")]), st.data())
def test_damage_is_judged_as_pillow_judges_it(sound: bytes, data: st.DataObject) -> None:
    damaged = bytearray(sound)
    for place in data.draw(st.lists(st.integers(2, len(sound) - 1), min_size=1, max_size=4)):
        damaged[place] = data.draw(st.integers(0, 255))
    try:
        found = decode(bytes(damaged), LIMIT, ["jpeg"])
    except (InvalidImage, TooManyPixels):
        return
    with Image.open(BytesIO(damaged)) as image:
        if is_plain(image):
            np.testing.assert_array_equal(found, by_pillow(bytes(damaged)))

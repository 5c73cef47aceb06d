"""Which files a device may decode: JPEGs of which every decoder makes the same picture, within the limits."""

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from conftest import random_picture
from oodgate.images.opening import FilePicture, OpenPicture
from oodgate.images.plain import plain_file
from oodgate.images.preprocess import Preprocessing
from oodgate.settings import IMAGE_TYPES

PREPROCESSING = Preprocessing(resize=16, crop=(16, 16), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
FORMATS = tuple(IMAGE_TYPES)


def jpeg(mode: str = "RGB", size: tuple[int, int] = (40, 30), image_format: str = "JPEG", **options: Any) -> bytes:
    file = BytesIO()
    random_picture(0).resize(size).convert(mode).save(file, image_format, **options)
    return file.getvalue()


def oriented(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return jpeg(exif=exif)


def with_components(numbers: bytes) -> bytes:
    """A JPEG without any marker of its colours, whose frame and scan name its components so."""
    data = bytearray(jpeg())
    data = data[:2] + data[data.index(b"\xff\xdb") :]
    frame, scan = data.index(b"\xff\xc0"), data.index(b"\xff\xda")
    for place, number in enumerate(numbers):
        data[frame + 10 + 3 * place] = data[scan + 5 + 2 * place] = number
    return bytes(data)


def file(data: bytes, max_pixels: int = 40 * 30, formats: tuple[str, ...] = FORMATS) -> FilePicture:
    return FilePicture(data, max_pixels, formats)


@pytest.mark.parametrize(
    "data",
    [
        jpeg(),
        jpeg("L"),
        jpeg(progressive=True),
        jpeg(quality=30, subsampling=0),
        oriented(1),
        with_components(b"\1\2\3"),
    ],
    ids=["colours", "grey", "progressive", "coarse", "upright", "unmarked"],
)
def test_a_jpeg_that_everybody_shows_alike_is_plain(data: bytes) -> None:
    found = plain_file(file(data), PREPROCESSING)
    assert found is not None
    assert (found.data, found.pixels) == (data, 40 * 30)


@pytest.mark.parametrize(
    "data",
    [
        jpeg(image_format="PNG"),
        jpeg("CMYK"),
        oriented(6),
        with_components(b"RGB"),
        jpeg()[:-2],
        jpeg() + b"more",
        jpeg()[:300] + b"\xff\xd9",
        b"\xff\xd8\xff\xd9",
        b"",
    ],
    ids=["PNG", "CMYK", "turned", "red-green-blue", "cut short", "longer", "damaged", "empty JPEG", "nothing"],
)
def test_every_other_file_is_not(data: bytes) -> None:
    assert plain_file(file(data), PREPROCESSING) is None


def test_a_picture_that_is_no_file_is_not() -> None:
    assert plain_file(lambda: np.array(random_picture(0)), PREPROCESSING) is None


def test_the_limits_of_an_image_hold() -> None:
    assert plain_file(file(jpeg(), max_pixels=40 * 30 - 1), PREPROCESSING) is None
    assert plain_file(file(jpeg(), formats=("png", "webp")), PREPROCESSING) is None


def test_a_picture_of_which_only_the_centre_is_resized_is_left_to_the_host() -> None:
    assert plain_file(file(jpeg(size=(10_000, 1), quality=5), 10_000), PREPROCESSING) is None


@given(st.binary(max_size=300))
def test_no_bytes_do_harm(data: bytes) -> None:
    picture: OpenPicture = file(b"\xff\xd8" + data + b"\xff\xd9")
    found = plain_file(picture, PREPROCESSING)
    assert found is None or found.pixels <= 40 * 30

"""Hostile files at the decoder: what they hide plays no part, and what they announce is held to the limits."""

import struct
import subprocess
import sys
from io import BytesIO

import numpy as np
import pytest
from hostile import (
    PICTURE,
    SIDE,
    empty_pictures,
    frames_of_a_jpeg,
    grey_tiff,
    jpeg_announcing,
    jpeg_segment,
    jpeg_with,
    png_chunk,
    png_with,
    polyglots,
    text_bombs,
)
from PIL import Image

from conftest import encoded, random_picture
from oodgate.errors import InvalidImage, TooManyPixels
from oodgate.images.decode import decode
from oodgate.settings import IMAGE_TYPES

FORMATS = tuple(IMAGE_TYPES)
LIMIT = 1_000_000
BLUE = (0, 0, 255)
ORIENTATION, RATIONAL = 274, 5


def pixels_of(data: bytes) -> np.ndarray:
    return decode(data, LIMIT, FORMATS)


def test_jpeg_header_over_the_limit_is_refused_by_its_number() -> None:
    with pytest.raises(TooManyPixels, match="65535 x 65535 pixels"):
        decode(jpeg_announcing(SIDE, SIDE), 50_000_000, FORMATS)


@pytest.mark.parametrize(
    ("image_format", "options"),
    [("PNG", {}), ("GIF", {}), ("WEBP", {"lossless": True, "method": 0}), ("TIFF", {"compression": "tiff_deflate"})],
)
def test_whole_files_that_unpack_a_thousandfold_are_refused(image_format: str, options: dict[str, object]) -> None:
    data = encoded(Image.new("P", (2000, 2000)), image_format, **options)
    assert len(data) < 2000 * 2000 / 300
    with pytest.raises(TooManyPixels, match="2000 x 2000"):
        decode(data, LIMIT, FORMATS)


@pytest.mark.parametrize("name", empty_pictures())
def test_pictures_without_pixels_are_refused(name: str) -> None:
    with pytest.raises(InvalidImage):
        decode(empty_pictures()[name], LIMIT, FORMATS)


@pytest.mark.parametrize("name", polyglots())
def test_what_a_file_is_besides_a_picture_plays_no_part(name: str) -> None:
    if name.startswith("jpeg"):
        assert np.abs(pixels_of(polyglots()[name]).astype(int) - 90).max() <= 1
    else:
        np.testing.assert_array_equal(pixels_of(polyglots()[name]), np.array(PICTURE))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"%PDF-1.7\n" + jpeg_with(), id="document that holds a jpeg"),
        pytest.param(b"PK\x03\x04" + encoded(PICTURE), id="archive that holds a png"),
        pytest.param(b"<svg><image href='data:image/png;base64,'/></svg>" + encoded(PICTURE), id="svg before a png"),
        pytest.param(b"\0" + encoded(PICTURE, "GIF"), id="gif that begins late"),
    ],
)
def test_pictures_inside_of_something_else_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidImage, match="not an image of an allowed format"):
        decode(data, LIMIT, FORMATS)


def test_no_decoder_but_those_of_the_allowed_formats_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    Image.init()
    asked: list[str] = []

    def record(name: str) -> tuple[object, object]:
        return (lambda *_: asked.append(name), lambda *_: asked.append(name))

    others = {name: record(name) for name in Image.OPEN if name.lower() not in FORMATS}
    assert {"EPS", "PPM", "JPEG2000", "AVIF"} & set(others)
    monkeypatch.setattr(Image, "OPEN", Image.OPEN | others)
    for signature in (
        b"%!PS-Adobe",
        b"P6 1 1 255 ",
        b"\0\0\0\x0cjP  ",
        b"8BPS",
        b"\0\0\1\0",
        b"",
        b"\xff\xd8\xff",
        b"II*\0",
    ):
        with pytest.raises(InvalidImage):
            decode(signature + bytes(100), LIMIT, FORMATS)
    assert asked == []


def test_later_frame_larger_than_the_first_is_never_looked_at() -> None:
    gif = encoded(PICTURE, "GIF")
    huge = b"," + struct.pack("<HHHHB", 0, 0, SIDE, SIDE, 0) + b"\x02\x02\x44\x01\x00"
    np.testing.assert_array_equal(pixels_of(gif[:-1] + huge + b";"), np.array(PICTURE))


def test_later_page_larger_than_the_first_is_never_looked_at() -> None:
    second = grey_tiff(SIDE, SIDE, b"")[8:]
    first = grey_tiff(2, 1, b"\x10\x20" + second, following=10)
    assert pixels_of(first).tolist() == [[[16] * 3, [32] * 3]]


def test_default_image_of_an_animated_png_stands_for_it() -> None:
    others = [Image.new("RGB", (6, 4), BLUE)] * 2
    data = encoded(PICTURE, "PNG", save_all=True, default_image=True, append_images=others)
    with Image.open(BytesIO(data)) as image:
        assert image.info["default_image"]
    np.testing.assert_array_equal(pixels_of(data), np.array(PICTURE))


@pytest.mark.parametrize("profile", [b"", b"junk", bytes(100), random_picture(0, 500, 500).tobytes()], ids=len)
def test_icc_profile_changes_nothing_and_may_be_anything(profile: bytes) -> None:
    np.testing.assert_array_equal(pixels_of(encoded(PICTURE, "PNG", icc_profile=profile)), np.array(PICTURE))
    np.testing.assert_array_equal(
        pixels_of(encoded(PICTURE, "WEBP", lossless=True, icc_profile=profile)), np.array(PICTURE)
    )
    assert np.abs(pixels_of(jpeg_with(*frames_of_a_jpeg(profile))).astype(int) - 90).max() <= 1


def test_icc_profile_whose_segments_are_miscounted_is_ignored() -> None:
    wrong = [jpeg_segment(0xE2, b"ICC_PROFILE\0" + bytes([number, 9]) + bytes(50)) for number in (7, 0, 7)]
    assert np.abs(pixels_of(jpeg_with(*wrong)).astype(int) - 90).max() <= 1


@pytest.mark.parametrize("name", text_bombs())
def test_png_metadata_that_unpack_to_megabytes_are_refused(name: str) -> None:
    data = text_bombs()[name]
    assert len(data) < 200_000
    with pytest.raises(InvalidImage):
        decode(data, LIMIT, FORMATS)


def exif_block(*entries: tuple[int, int, int, int], following: int = 0, rest: bytes = b"") -> bytes:
    """A little-endian EXIF block; its entries are (tag, type, count, value), and the rest begins at offset 100."""
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return (b"II*\0\x08\0\0\0" + directory + struct.pack("<I", following)).ljust(100, b"\0") + rest


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(exif_block((ORIENTATION, 3, 1, 3), (34665, 4, 1, 8), following=8), id="directories in a circle"),
        pytest.param(exif_block((282, RATIONAL, 100_000, 100), (ORIENTATION, 3, 1, 3), rest=bytes(800_000)), id="huge"),
        pytest.param(exif_block((305, 2, 2**32 - 1, 100), (ORIENTATION, 3, 1, 3)), id="text out of the file"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_abused_exif_turns_the_picture_and_does_no_more(block: bytes) -> None:
    turned = np.array(PICTURE)[::-1, ::-1]
    np.testing.assert_array_equal(pixels_of(png_with(png_chunk(b"eXIf", block))), turned)
    np.testing.assert_array_equal(pixels_of(encoded(PICTURE, "WEBP", lossless=True, exif=block)), turned)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_tiff_whose_directories_lead_in_a_circle_is_read() -> None:
    data = grey_tiff(2, 1, b"\x10\x20", (34665, 4, 1, 10), (34853, 4, 1, 10), (40965, 4, 1, 10), following=10)
    assert pixels_of(data).tolist() == [[[16] * 3, [32] * 3]]


@pytest.mark.parametrize("offset", [0, 7, 15, 20, 2**31, 2**32 - 1, 2**63, 2**64 - 1])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_tiff_whose_directory_lies_out_of_the_file_is_refused(offset: int) -> None:
    heads = [b"II+\0\x08\0\0\0" + struct.pack("<Q", offset)]
    heads += [sign + struct.pack(form, offset & 0xFFFFFFFF) for sign, form in ((b"II*\0", "<I"), (b"MM\0*", ">I"))]
    for head in heads:
        with pytest.raises(InvalidImage):
            decode(head + bytes(8), LIMIT, FORMATS)


def test_ycck_jpeg_is_turned_into_rgb() -> None:
    """Stored inverted, as Adobe does: luma 200 of the inks, no colour, no black."""
    data = encoded(Image.new("CMYK", (8, 8), (55, 127, 127, 0)), "JPEG", quality=100)
    marker = data.index(b"Adobe") + 11
    assert data[marker] == 0
    found = pixels_of(data[:marker] + b"\x02" + data[marker + 1 :])
    assert np.abs(found.astype(int) - 55).max() <= 2


NOISY = """
from oodgate.images.decode import decode
for data in DATA:
    try:
        decode(data, 50_000_000, FORMATS)
    except Exception:
        pass
"""


def noisy_files() -> list[bytes]:
    """Files about which Pillow or libtiff has something to say."""
    tiff = bytearray(encoded(random_picture(0, 64, 64), "TIFF", compression="tiff_lzw"))
    tiff[60:80] = b"\xff" * 20
    samples = grey_tiff(2, 1, b"\x10\x20", (277, 4, 1, 1_000_000))
    exif = exif_block((305, 2, 2**32 - 1, 100), (306, 2, 1000, 100))
    return [
        bytes(tiff),
        samples,
        grey_tiff(2, 1, b"", (305, 2, 999, 1000)),
        png_with(png_chunk(b"eXIf", exif)),
        b"no image",
    ]


def test_decoders_say_nothing_to_the_terminal() -> None:
    script = NOISY.replace("DATA", repr(noisy_files())).replace("FORMATS", repr(FORMATS))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr + done.stdout == ""

"""Bytes of image files of every kind, sound and hostile, against the picture or the error that they must give."""

import random
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from conftest import encoded, random_picture
from oodgate.errors import InvalidImage, RequestError, TooManyPixels
from oodgate.images.decode import decode
from oodgate.settings import IMAGE_TYPES

FORMATS = tuple(IMAGE_TYPES)
LIMIT = 1_000_000
LOSSLESS = {"PNG": {}, "WEBP": {"lossless": True}, "GIF": {}, "BMP": {}, "TIFF": {}}
ORIENTATION = 0x0112
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)

# What each EXIF orientation tells a reader to do with the stored rows, in numpy's words.
UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: stored.transpose(1, 0, 2)[:, ::-1],
    7: lambda stored: stored[::-1, ::-1].transpose(1, 0, 2),
    8: lambda stored: stored.transpose(1, 0, 2)[::-1],
}


def pixels_of(data: bytes) -> np.ndarray:
    pixels = decode(data, LIMIT, FORMATS)
    assert (pixels.dtype, pixels.shape[2:]) == (np.uint8, (3,))
    return pixels


def exif(orientation: int) -> Image.Exif:
    block = Image.Exif()
    block[ORIENTATION] = orientation
    return block


def few_colours(width: int = 6, height: int = 4) -> Image.Image:
    """A picture that a palette of 256 colours holds exactly."""
    return random_picture(7, width, height)


@pytest.mark.parametrize("image_format", LOSSLESS)
def test_lossless_formats_give_the_stored_pixels(image_format: str) -> None:
    picture = few_colours()
    found = pixels_of(encoded(picture, image_format, **LOSSLESS[image_format]))
    np.testing.assert_array_equal(found, np.array(picture))


@pytest.mark.parametrize("image_format", ["JPEG", "WEBP"])
def test_lossy_formats_give_nearly_the_stored_colour(image_format: str) -> None:
    found = pixels_of(encoded(Image.new("RGB", (20, 10), (200, 100, 50)), image_format, quality=95))
    assert found.shape == (10, 20, 3)
    assert np.abs(found.astype(int) - (200, 100, 50)).max() <= 3


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(image_format: str, orientation: int) -> None:
    stored = few_colours()
    data = encoded(stored, image_format, exif=exif(orientation), **LOSSLESS[image_format])
    np.testing.assert_array_equal(pixels_of(data), UPRIGHT[orientation](np.array(stored)))


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation_of_a_jpeg_is_applied(orientation: int) -> None:
    stored = Image.new("RGB", (32, 16), BLUE)
    stored.paste(RED, (0, 0, 16, 16))
    stored.paste(GREEN, (0, 0, 8, 8))
    data = encoded(stored, "JPEG", exif=exif(orientation), quality=100, subsampling=0)
    expected = UPRIGHT[orientation](np.array(stored)).astype(int)
    assert np.abs(pixels_of(data) - expected).max() <= 4


@pytest.mark.parametrize("orientation", [0, 9, 255, 65535])
def test_unknown_exif_orientation_leaves_the_picture_as_stored(orientation: int) -> None:
    stored = few_colours()
    data = encoded(stored, "PNG", exif=exif(orientation))
    np.testing.assert_array_equal(pixels_of(data), np.array(stored))


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(b"Exif\0\0", id="empty"),
        pytest.param(b"Exif\0\0garbage", id="no header"),
        pytest.param(b"Exif\0\0II*\0\xff\xff\xff\xff", id="directory out of the file"),
        pytest.param(b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + bytes(8), id="too many entries"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_damaged_exif_is_ignored(block: bytes) -> None:
    picture = few_colours()
    np.testing.assert_array_equal(pixels_of(encoded(picture, "PNG", exif=block)), np.array(picture))
    grey = Image.new("RGB", (16, 16), (90, 90, 90))
    assert np.abs(pixels_of(encoded(grey, "JPEG", exif=block)).astype(int) - 90).max() <= 1


def test_palette_gives_its_colours() -> None:
    picture = Image.new("P", (2, 1))
    picture.putpalette([*RED, *BLUE])
    picture.putpixel((1, 0), 1)
    assert pixels_of(encoded(picture)).tolist() == [[[*RED], [*BLUE]]]


@pytest.mark.parametrize("transparency", [1, bytes([255, 0])], ids=["one index", "an alpha for each index"])
def test_transparent_palette_entries_lie_on_white(transparency: int | bytes) -> None:
    picture = Image.new("P", (2, 1))
    picture.putpalette([*RED, *BLUE])
    picture.putpixel((1, 0), 1)
    assert pixels_of(encoded(picture, transparency=transparency)).tolist() == [[[*RED], [*WHITE]]]


def test_half_transparent_palette_entry_is_blended_with_white() -> None:
    picture = Image.new("P", (1, 1))
    picture.putpalette([*RED])
    assert pixels_of(encoded(picture, transparency=bytes([51]))).tolist() == [[[255, 204, 204]]]


def test_transparent_colour_of_a_true_colour_png_lies_on_white() -> None:
    picture = Image.new("RGB", (2, 1), RED)
    picture.putpixel((1, 0), BLUE)
    assert pixels_of(encoded(picture, transparency=BLUE)).tolist() == [[[*RED], [*WHITE]]]


@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "TIFF"])
def test_rgba_is_laid_over_white(image_format: str) -> None:
    alphas = (0, 51, 255)
    picture = Image.new("RGBA", (3, 1))
    picture.putdata([(*RED, alpha) for alpha in alphas])
    options = LOSSLESS[image_format] | ({"exact": True} if image_format == "WEBP" else {})
    assert pixels_of(encoded(picture, image_format, **options)).tolist() == [[[*WHITE], [255, 204, 204], [*RED]]]


def test_grey_becomes_equal_channels() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(pixels_of(encoded(Image.fromarray(grey))), np.stack([grey] * 3, 2))


def test_grey_with_alpha_is_laid_over_white() -> None:
    picture = Image.new("LA", (3, 1))
    picture.putdata([(0, 0), (0, 51), (100, 255)])
    assert pixels_of(encoded(picture)).tolist() == [[[255] * 3, [204] * 3, [100] * 3]]


@pytest.mark.parametrize("image_format", ["PNG", "TIFF", "BMP"])
def test_one_bit_is_black_and_white(image_format: str) -> None:
    picture = Image.new("1", (2, 1))
    picture.putpixel((1, 0), 1)
    assert pixels_of(encoded(picture, image_format)).tolist() == [[[0] * 3, [255] * 3]]


@pytest.mark.parametrize(
    ("ink", "colour"),
    [
        ((0, 0, 0, 0), WHITE),
        ((0, 0, 0, 255), (0, 0, 0)),
        ((255, 0, 0, 0), (0, 255, 255)),
        ((0, 255, 255, 0), RED),
    ],
)
@pytest.mark.parametrize("image_format", ["JPEG", "TIFF"])
def test_cmyk_is_turned_into_rgb(image_format: str, ink: tuple[int, ...], colour: tuple[int, ...]) -> None:
    found = pixels_of(encoded(Image.new("CMYK", (8, 8), ink), image_format))
    assert np.abs(found.astype(int) - colour).max() <= 2


@pytest.mark.parametrize(
    ("image_format", "order"), [("PNG", "<u2"), ("TIFF", "<u2"), ("TIFF", ">u2")], ids=["png", "tiff-le", "tiff-be"]
)
def test_every_sixteen_bit_grey_is_scaled_by_257(image_format: str, order: str) -> None:
    grey = np.arange(65536).reshape(256, 256)
    found = pixels_of(encoded(Image.fromarray(grey.astype(order)), image_format))
    np.testing.assert_array_equal(found, np.stack([grey // 257] * 3, 2))


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG file; `rows` hold a filter byte each."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_forty_eight_bit_png_keeps_the_high_bytes() -> None:
    row = b"\0" + struct.pack(">6H", 0x0001, 0x80FF, 0xFFFF, 0x1234, 0x00FF, 0xFF00)
    assert pixels_of(png(2, 1, 16, 2, row)).tolist() == [[[0, 128, 255], [0x12, 0, 255]]]


def test_sixty_four_bit_png_is_laid_over_white() -> None:
    row = b"\0" + struct.pack(">8H", 65535, 0, 0, 0, 65535, 0, 0, 65535)
    assert pixels_of(png(2, 1, 16, 6, row)).tolist() == [[[*WHITE], [*RED]]]


@pytest.mark.parametrize(("mode", "kind"), [("I", np.int32), ("F", np.float32)])
def test_pixels_without_a_defined_white_are_refused(mode: str, kind: type) -> None:
    data = encoded(Image.fromarray(np.ones((2, 2), kind)), "TIFF")
    with pytest.raises(InvalidImage, match=f"mode {mode} have no defined white"):
        decode(data, LIMIT, FORMATS)


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_frame_stands_for_an_animation(image_format: str) -> None:
    first, others = few_colours(), [Image.new("RGB", (6, 4), BLUE), Image.new("RGB", (6, 4), GREEN)]
    data = encoded(first, image_format, save_all=True, append_images=others, **LOSSLESS[image_format])
    with Image.open(BytesIO(data)) as image:
        assert image.n_frames == 3
    np.testing.assert_array_equal(pixels_of(data), np.array(first))


def test_first_picture_stands_for_an_mpo() -> None:
    data = encoded(Image.new("RGB", (16, 16), RED), "MPO", save_all=True, append_images=[Image.new("RGB", (16, 16))])
    with Image.open(BytesIO(data)) as image:
        assert (image.format, image.n_frames) == ("MPO", 2)
    assert np.abs(pixels_of(data).astype(int) - RED).max() <= 2


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1)])
@pytest.mark.parametrize("image_format", LOSSLESS)
def test_pictures_one_pixel_wide_or_high_are_read(image_format: str, size: tuple[int, int]) -> None:
    picture = Image.new("RGB", size, RED)
    picture.putpixel((size[0] - 1, size[1] - 1), BLUE)
    found = pixels_of(encoded(picture, image_format, **LOSSLESS[image_format]))
    np.testing.assert_array_equal(found, np.array(picture))


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_truncated_files_are_refused(image_format: str, share: float) -> None:
    data = encoded(random_picture(0, 64, 64), image_format)
    decode(data, LIMIT, FORMATS)
    with pytest.raises(InvalidImage):
        decode(data[: int(share * len(data))], LIMIT, FORMATS)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\0", id="one byte"),
        pytest.param(b"not an image, only a sentence", id="text"),
        pytest.param(b'<svg xmlns="http://www.w3.org/2000/svg" width="4" height="4"/>', id="svg"),
        pytest.param(b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n", id="pdf"),
        pytest.param(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n", id="eps"),
        pytest.param(b"P6 1 1 255\n\0\0\0", id="ppm"),
        pytest.param(b"RIFF\x04\0\0\0WEBP", id="webp without a chunk"),
        pytest.param(b"RIFF\x10\0\0\0WEBPVP8X", id="webp without a canvas"),
        pytest.param(b"\x89PNG\r\n\x1a\n", id="png without a chunk"),
    ],
)
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidImage):
        decode(data, LIMIT, FORMATS)


@pytest.mark.parametrize("image_format", ["JPEG", *LOSSLESS])
def test_only_allowed_formats_are_read(image_format: str) -> None:
    data = encoded(few_colours(), image_format)
    assert decode(data, LIMIT, [image_format.lower()]).shape == (4, 6, 3)
    others = [name for name in FORMATS if name != image_format.lower()]
    with pytest.raises(InvalidImage, match=r"not an image of an allowed format \(" + ", ".join(others)):
        decode(data, LIMIT, others)


@pytest.mark.parametrize("image_format", ["ICO", "TGA", "PPM", "JPEG2000", "PCX"])
def test_formats_that_nobody_can_allow_are_refused(image_format: str) -> None:
    with pytest.raises(InvalidImage, match="allowed format"):
        decode(encoded(Image.new("RGB", (16, 16)), image_format), LIMIT, FORMATS)


@pytest.mark.parametrize("image_format", ["JPEG", *LOSSLESS])
def test_as_many_pixels_as_the_limit_are_taken_and_no_more(image_format: str) -> None:
    data = encoded(random_picture(0, 30, 20), image_format)
    assert decode(data, 600, FORMATS).shape == (20, 30, 3)
    with pytest.raises(TooManyPixels, match="30 x 20 pixels, at most 599"):
        decode(data, 599, FORMATS)


@pytest.mark.parametrize("options", [{"lossless": True}, {"lossless": False}, {"exif": exif(1)}], ids=str)
def test_every_kind_of_webp_header_is_held_to_the_limit(options: dict[str, object]) -> None:
    data = encoded(random_picture(0, 30, 20), "WEBP", **options)
    assert decode(data, 600, FORMATS).shape == (20, 30, 3)
    with pytest.raises(TooManyPixels, match="30 x 20"):
        decode(data, 599, FORMATS)


def tiff(width: int, height: int, entries: list[tuple[int, int, int, int]], data: bytes = b"") -> bytes:
    """A little-endian TIFF file of 8-bit RGB, its data at offset 8; entries are (tag, type, count, value)."""
    tags = sorted([(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (262, 3, 1, 2), (277, 3, 1, 3), *entries])
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory


def bombs() -> dict[str, bytes]:
    """Small files that announce 65,535 x 65,535 pixels."""
    side = 65535
    canvas = struct.pack("<I", side - 1)[:3]
    screen = struct.pack("<HHBBB", side, side, 0x80, 0, 0) + bytes(6)
    frame = b"," + struct.pack("<HHHHB", 0, 0, side, side, 0) + b"\x02\x02\x44\x01\x00;"
    whole = encoded(Image.new("RGBA", (1, 1)), "WEBP", lossless=True)[12:]
    extended = b"WEBP" + b"VP8X" + struct.pack("<I", 10) + b"\x10\0\0\0" + canvas + canvas + whole
    return {
        "png": png(side, side, 8, 2, bytes(100)),
        "gif": b"GIF89a" + screen + frame,
        "gif frame": b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(6) + frame,
        "webp": b"RIFF" + struct.pack("<I", len(extended)) + extended,
        "bmp": b"BM"
        + struct.pack("<IHHI", 1000, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, side, side, 1, 24, *[0] * 6),
        "tiff": tiff(side, side, [(259, 3, 1, 1), (273, 4, 1, 8), (278, 4, 1, side), (279, 4, 1, 4)], bytes(4)),
        "tiff tile": tiff(
            16, 16, [(259, 3, 1, 8), (322, 4, 1, side), (323, 4, 1, side), (324, 4, 1, 8), (325, 4, 1, 4)], bytes(4)
        ),
    }


# Growing past the limit would raise MemoryError, which decode would answer with InvalidImage, not TooManyPixels.
WITHIN_64_MEGABYTES = """
import resource, sys
from pathlib import Path
from PIL import Image
from oodgate.images.decode import decode
from oodgate.errors import TooManyPixels
Image.init()
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + 64 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for name, data in DATA.items():
    try:
        decode(data, 50_000_000, FORMATS)
    except TooManyPixels:
        print(name)
try:
    Image.new("RGB", (8192, 8192))
except MemoryError:
    print("out of memory")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the size of the process from /proc")
def test_announced_pixels_are_refused_before_memory_is_taken_for_them() -> None:
    script = WITHIN_64_MEGABYTES.replace("DATA", repr(bombs())).replace("FORMATS", repr(FORMATS))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [*bombs(), "out of memory"]


@pytest.mark.parametrize("name", bombs())
def test_announced_pixels_over_the_limit_are_refused_by_their_number(name: str) -> None:
    with pytest.raises(TooManyPixels, match="65535 x 65535 pixels, at most 50000000 are taken"):
        decode(bombs()[name], 50_000_000, FORMATS)


def test_tiles_larger_than_their_picture_are_read_within_the_limit() -> None:
    tile = zlib.compress(bytes(RED) * 32 * 32)
    entries = [(259, 3, 1, 8), (322, 4, 1, 32), (323, 4, 1, 32), (324, 4, 1, 8), (325, 4, 1, len(tile))]
    data = tiff(3, 2, entries, tile)
    assert pixels_of(data).tolist() == [[[*RED]] * 3] * 2
    with pytest.raises(TooManyPixels):
        decode(data, 32 * 32 - 1, FORMATS)


SOUND = [
    *(encoded(few_colours(), name, **options) for name, options in LOSSLESS.items()),
    encoded(few_colours(), "JPEG", exif=exif(6)),
    encoded(few_colours(), "JPEG", progressive=True),
    encoded(few_colours(), "PNG", exif=exif(6)),
    encoded(few_colours().convert("P"), "PNG", transparency=bytes([0, 128])),
    encoded(few_colours().convert("LA"), "PNG"),
    encoded(few_colours(), "TIFF", compression="tiff_lzw"),
    encoded(few_colours(), "TIFF", compression="jpeg"),
    encoded(few_colours(), "WEBP", exif=exif(6)),
    encoded(few_colours(), "GIF", save_all=True, append_images=[Image.new("RGB", (6, 4), BLUE)]),
    encoded(few_colours(), "PNG", save_all=True, append_images=[Image.new("RGB", (6, 4), BLUE)]),
]


# Pillow warns of some damage and reads on, as it does in the service.
@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=1000, deadline=None)
@given(st.sampled_from(SOUND), st.integers(0, 2**32), st.integers(1, 8), st.booleans())
def test_mutated_files_give_a_picture_or_a_request_error(sound: bytes, seed: int, changes: int, header: bool) -> None:
    chance, mutated = random.Random(seed), bytearray(sound)
    for _ in range(changes):
        place = chance.randrange(min(64, len(mutated)) if header else len(mutated))
        mutated[place] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)])
    try:
        pixels = decode(bytes(mutated), 10_000, FORMATS)
    except RequestError as error:
        assert isinstance(error, InvalidImage | TooManyPixels)
    else:
        assert (pixels.dtype, pixels.shape[2:]) == (np.uint8, (3,))
        assert 0 < pixels.size <= 3 * 10_000


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=200, deadline=None)
@given(st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\0", b"MM\0*"]), st.binary())
def test_random_bytes_give_a_picture_or_a_request_error(signature: bytes, rest: bytes) -> None:
    try:
        pixels = decode(signature + rest, 10_000, FORMATS)
    except (InvalidImage, TooManyPixels):
        return
    assert pixels.size <= 3 * 10_000

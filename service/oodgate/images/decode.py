"""Bytes of an image file -> RGB pixels, with every limit checked before pixels are allocated.

The declared content type plays no part here: the bytes say what they are, and only the allowed decoders look.
"""

from collections.abc import Sequence
from io import BytesIO

import imagesize
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import TILELENGTH, TILEWIDTH, TiffImageFile

from oodgate.errors import InvalidImage, TooManyPixels
from oodgate.images.jpeg import decode_plain, is_plain
from oodgate.images.orientation import turned_upright
from oodgate.images.png import decode_small
from oodgate.images.silence import silence_decoders
from oodgate.images.work import CountedFile, check_run_lengths, check_work

silence_decoders()

# Each image is held to its own limit below; Pillow's limit is process-wide and would warn about allowed images.
Image.MAX_IMAGE_PIXELS = None

_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")
_NO_DEFINED_RANGE = ("I", "F")


def decode(data: bytes, max_pixels: int, formats: Sequence[str]) -> NDArray[np.uint8]:
    """Decode an image file whole; returns RGB pixels (H, W, 3), upright.

    The first frame stands for an animation, EXIF orientation is applied, transparency lies on white, 16-bit grey
    is scaled to 8 bits. Raises InvalidImage where the bytes are not an image of the allowed `formats` (lower-case
    names such as "jpeg"), are cut short or are made to keep a decoder busy, TooManyPixels where the header announces
    more than `max_pixels`.
    """
    if "png" in formats and (pixels := decode_small(data, max_pixels)) is not None:
        return pixels
    _check_webp_canvas(data, max_pixels)
    check_work(data)
    try:
        image = Image.open(CountedFile(data), formats=[name.upper() for name in formats])
    except InvalidImage:
        raise
    except Exception as error:  # decoders meet hostile bytes and raise anything
        raise InvalidImage(f"the bytes are not an image of an allowed format ({', '.join(formats)})") from error
    with image:
        _check_pixels(*image.size, max_pixels)
        _check_tiles(image, max_pixels)
        check_run_lengths(image)
        if is_plain(image) and (pixels := decode_plain(data, *image.size)) is not None:
            return pixels
        try:
            image.load()
        except InvalidImage:
            raise
        except Exception as error:
            raise InvalidImage(f"the {image.format} data is damaged or cut short; send the whole file") from error
        return np.array(_to_rgb(turned_upright(image)))


def _check_webp_canvas(data: bytes, max_pixels: int) -> None:
    # Pillow's WebP reader allocates the canvas when it opens the file, before its size can be asked for.
    if data[8:12] == b"WEBP":
        try:
            width, height = imagesize.get(BytesIO(data[:64]))
        except Exception as error:
            raise InvalidImage("the WebP header is damaged; send the whole file") from error
        _check_pixels(width, height, max_pixels)


def _check_pixels(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise TooManyPixels(f"the image has {width} x {height} pixels, at most {max_pixels} are taken; scale it down")


def _check_tiles(image: Image.Image, max_pixels: int) -> None:
    # libtiff decodes whole tiles, and a tile can announce far more pixels than the picture that is cut from it.
    if isinstance(image, TiffImageFile):
        width, height = image.tag_v2.get(TILEWIDTH, 1), image.tag_v2.get(TILELENGTH, 1)
        if not (isinstance(width, int) and isinstance(height, int)):
            raise InvalidImage("the size of the TIFF's tiles is damaged; send the whole file")
        _check_pixels(width, height, max_pixels)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in _NO_DEFINED_RANGE:
        raise InvalidImage(f"pixels of mode {image.mode} have no defined white; send 8 or 16 bits a channel")
    if image.mode in _SIXTEEN_BIT:
        # By way of mode I, since Pillow scales one byte order of the sixteen-bit modes only.
        return image.convert("I").point(lambda value: value * (1 / 257)).convert("L").convert("RGB")
    if image.has_transparency_data:
        picture = image.convert("RGBA")
        paper = Image.new("RGB", picture.size, "white")
        paper.paste(picture, mask=picture)
        return paper
    return image if image.mode == "RGB" else image.convert("RGB")

"""How a picture was held: what EXIF says of it, and the picture turned upright."""

from PIL import Image
from PIL.ExifTags import Base

UPRIGHT = 1
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation(image: Image.Image) -> int:
    """The orientation of an opened picture, one of EXIF's eight; upright where none of them is told."""
    try:
        told = image.getexif().get(Base.Orientation)
        return int(told) if told in _TURNS else UPRIGHT
    except Exception:  # a damaged EXIF block raises anything, and says nothing about the pixels
        return UPRIGHT


def turned_upright(image: Image.Image) -> Image.Image:
    """The picture as it was meant to be seen."""
    # ImageOps.exif_transpose writes the whole EXIF block anew, which takes seconds for one of many fractions.
    turn = _TURNS.get(orientation(image))
    return image if turn is None else image.transpose(turn)

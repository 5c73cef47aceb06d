"""Which files a device may decode: plain JPEG files, whole and within the limits of an image."""

from dataclasses import dataclass

from PIL import Image

from oodgate.images.jpeg import is_plain
from oodgate.images.opening import FilePicture, OpenPicture
from oodgate.images.preprocess import Preprocessing, is_resized_whole
from oodgate.images.work import CountedFile, check_work

_START, _END = b"\xff\xd8", b"\xff\xd9"


@dataclass(frozen=True, slots=True)
class PlainFile:
    """A plain JPEG file within the limits of an image, and how many pixels its header announces."""

    data: bytes
    pixels: int


def plain_file(picture: OpenPicture, preprocessing: Preprocessing) -> PlainFile | None:
    """The file of a picture if it is a plain one; of all others the host's decoder may say what they are."""
    if not isinstance(picture, FilePicture) or not _is_whole_jpeg(picture):
        return None
    try:
        check_work(picture.data)
        with Image.open(CountedFile(picture.data), formats=["JPEG"]) as image:
            pixels = image.width * image.height
            plain = pixels <= picture.max_pixels and is_plain(image) and is_resized_whole(image.size, preprocessing)
            return PlainFile(picture.data, pixels) if plain else None
    except Exception:  # hostile bytes raise anything
        return None


def _is_whole_jpeg(file: FilePicture) -> bool:
    return "jpeg" in file.formats and file.data.startswith(_START) and file.data.endswith(_END)

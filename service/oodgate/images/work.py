"""How much work a small file may ask of its decoder, besides its pixels: far more than what cameras and editors write.

Pixels are limited by number. What is limited here is what costs seconds without adding one: scans of a JPEG,
segments, chunks, blocks and runs, which Pillow reads one by one.
"""

import re
from io import BytesIO

from PIL import Image

from oodgate.errors import InvalidImage
from oodgate.images.directories import check_directories

_MOST_READS = 300_000
_MOST_SCANS = 64
_MOST_SCANNED_PIXELS = 1_000_000_000
_FEW_SCANS = 12  # what writers make of a picture of any size
_MOST_SEGMENTS = 2000
_MOST_EXIF_SEGMENTS = 16
_MOST_COMPRESSED_TEXTS = 200
_MOST_RUN_LENGTH_PIXELS = 5_000_000

_PNG_SIGNATURE = b"\x89PNG"
_RUN_LENGTH_CODINGS = (1, 2)

# Markers that a reader of a JPEG acts upon: not those of a byte 0xFF in the data, nor of a restart within a scan.
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_WITHOUT_LENGTH = (0x01, 0xD8)
_END, _SCAN, _APP1 = 0xD9, 0xDA, 0xE1
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


class CountedFile(BytesIO):
    """A file in memory that counts how often it is read from; raises InvalidImage beyond what sound files need."""

    _reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes."""
        self._reads += 1
        if self._reads > _MOST_READS:
            raise InvalidImage(f"the file consists of more than {_MOST_READS} pieces; save it anew")
        return super().read(size)


def check_work(data: bytes) -> None:
    """Raise InvalidImage where an image file asks for more work than its pixels can explain; before it is opened."""
    if data.startswith(b"\xff\xd8"):
        _check_jpeg(data)
    elif data.startswith(_PNG_SIGNATURE):
        texts = sum(data.count(kind) for kind in (b"zTXt", b"iTXt", b"iCCP"))
        _check("compressed texts", texts, _MOST_COMPRESSED_TEXTS)
    elif data.startswith((b"II", b"MM")):
        check_directories(data)


def check_run_lengths(image: Image.Image) -> None:
    """Raise InvalidImage where a BMP of many pixels is coded in runs, which Pillow unpacks pixel by pixel."""
    if image.format == "BMP" and image.info.get("compression") in _RUN_LENGTH_CODINGS:
        _check("pixels coded in runs", image.width * image.height, _MOST_RUN_LENGTH_PIXELS)


def _check_jpeg(data: bytes) -> None:
    # The first picture alone is decoded, and it ends at the first end marker that lies in no segment.
    place, pixels, segments, scans, exif_segments = 2, 1, 0, 0, 0
    while segments <= _MOST_SEGMENTS and (found := _MARKER.search(data, place)):
        place, marker = found.end(), data[found.end() - 1]
        if marker == _END:
            break
        segments += 1
        if marker not in _WITHOUT_LENGTH:
            scans += marker == _SCAN
            exif_segments += marker == _APP1 and data.startswith(b"Exif", place + 2)
            pixels = _pixels(data, place) if marker in _FRAMES else pixels
            place += int.from_bytes(data[place : place + 2])
    _check("segments", segments, _MOST_SEGMENTS)
    _check("EXIF segments", exif_segments, _MOST_EXIF_SEGMENTS)
    _check("scans", scans, min(_MOST_SCANS, max(_FEW_SCANS, _MOST_SCANNED_PIXELS // max(pixels, 1))))


def _pixels(data: bytes, place: int) -> int:
    return int.from_bytes(data[place + 3 : place + 5]) * int.from_bytes(data[place + 5 : place + 7])


def _check(what: str, number: int, most: int) -> None:
    if number > most:
        raise InvalidImage(f"the file has more {what} than the {most} that are taken; save it anew")

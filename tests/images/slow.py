"""Makers of small files of few pixels that would keep a decoder busy for seconds, up to minutes."""

import re
import struct
import zlib

from hostile import grey_tiff, jpeg_segment, jpeg_with, png_chunk, png_with
from PIL import Image

from conftest import encoded

MEBIBYTE = 2**20
RATIONAL, LONG, SHORT = 5, 4, 3


def progressive(width: int, height: int, further_scans: int) -> bytes:
    """A progressive JPEG file of six scans, and further ones that refine nothing."""
    data = encoded(Image.new("L", (width, height), 90), "JPEG", progressive=True)
    end = data.rindex(b"\xff\xd9")
    last = [found.start() for found in re.finditer(rb"\xff\xda", data)][-1]
    return data[:end] + data[last:end] * further_scans + data[end:]


def strips(count: int) -> bytes:
    """A TIFF file of one pixel a row and one row a strip."""
    return grey_tiff(1, count, struct.pack("<I", 8) * count, (273, LONG, count, 8))


def fractions(count: int) -> bytes:
    """A TIFF file of one pixel with this many exposure times."""
    times = struct.pack("<II", 1, 60) * count
    exif = struct.pack("<H", 1) + struct.pack("<HHII", 33434, RATIONAL, count, 8) + bytes(4)
    return grey_tiff(1, 1, times + exif, (34665, LONG, 1, 8 + len(times)))


def bmp_in_runs(width: int, height: int, runs: bytes) -> bytes:
    """A BMP file of 8 bits a pixel, coded in runs."""
    palette = b"".join(bytes([grey, grey, 255 - grey, 0]) for grey in range(256))
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(runs), 0, 0, 256, 0)
    start = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(runs), 0, 0, start) + header + palette + runs


def gif_with(*blocks: bytes) -> bytes:
    """A GIF file of 4 x 4 pixels with blocks before its picture."""
    data = encoded(Image.new("P", (4, 4)), "GIF")
    palette = 3 << ((data[10] & 7) + 1) if data[10] & 0x80 else 0
    return data[: 13 + palette] + b"".join(blocks) + data[13 + palette :]


def slow_files() -> dict[str, tuple[bytes, str]]:
    """Files that must be refused before they are slow, each with a part of the message that says why."""
    text = png_chunk(b"zTXt", b"\0\0" + zlib.compress(bytes(MEBIBYTE), 9))
    exif = jpeg_segment(0xE1, b"Exif\0\0" + bytes(50))
    return {
        "jpeg of many scans": (progressive(64, 64, 1000), "scans"),
        "large jpeg of scans": (progressive(8000, 5000, 40), "scans"),
        "jpeg of comments": (jpeg_with(jpeg_segment(0xFE, b"") * MEBIBYTE), "segments"),
        "jpeg of starts": (b"\xff\xd8" * 8 * MEBIBYTE, "segments"),
        "jpeg of exif": (jpeg_with(exif * 1000), "EXIF segments"),
        "jpeg of junk": (jpeg_with(jpeg_segment(0xFE, b""), bytes(MEBIBYTE)), "pieces"),
        "png of chunks": (png_with(png_chunk(b"teXt", b"") * (MEBIBYTE // 4)), "pieces"),
        "png of empty data": (png_with(png_chunk(b"IDAT", b"") * (MEBIBYTE // 4)), "pieces"),
        "png of texts": (png_with(text * 1000), "compressed texts"),
        "gif of comments": (gif_with(b"!\xfe", b"\x01x" * MEBIBYTE, b"\0"), "pieces"),
        "gif of extensions": (gif_with(b"!\x01\x01x\0" * MEBIBYTE), "pieces"),
        "bmp of runs": (bmp_in_runs(2000, 2000, b"\x01\x05" * MEBIBYTE), "pieces"),
        "bmp of one line": (bmp_in_runs(40_000_000, 1, b"\x01\x05\0\0"), "pixels coded in runs"),
        "tiff of strips": (strips(MEBIBYTE), "numbers"),
        "tiff of fractions": (fractions(MEBIBYTE), "numbers"),
        "tiff of entries": (grey_tiff(1, 1, b"", *[(tag, SHORT, 1, 0) for tag in range(1000, 9000)]), "entries"),
    }


def busy_files() -> dict[str, bytes]:
    """Files with more structure than most, which sound writers do make."""
    rows = [bytes([20, row % 256, 0, 0]) for row in range(2000)]
    return {
        "jpeg of twenty scans": progressive(64, 64, 14),
        "jpeg of a full profile": jpeg_with(jpeg_segment(0xE2, b"ICC_PROFILE\0" + bytes(60_000)) * 255),
        "jpeg with a thumbnail of scans": jpeg_with(jpeg_segment(0xE1, progressive(8, 8, 100))),
        "jpeg before a jpeg of scans": jpeg_with() + progressive(8, 8, 10_000),
        "png of many chunks": png_with(png_chunk(b"teXt", b"") * 50_000),
        "png of texts": png_with(
            *(png_chunk(b"zTXt", b"%d\0\0" % index + zlib.compress(b"a")) for index in range(100))
        ),
        "gif of a long comment": gif_with(b"!\xfe", (b"\xff" + b"x" * 255) * 2000, b"\0"),
        "bmp of runs": bmp_in_runs(20, 2000, b"".join(rows)),
        "tiff of ten thousand strips": strips(10_000),
    }

"""Makers of image files that no camera or editor writes: each is small, and says more than it holds or too much."""

import struct
import zlib
from io import BytesIO
from zipfile import ZipFile

from PIL import Image

from conftest import encoded, random_picture

SIDE = 65535
PICTURE = random_picture(7, 6, 4)
MEBIBYTE = 2**20


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk with its length and checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_with(*chunks: bytes) -> bytes:
    """The picture as a PNG file, with chunks after its header."""
    data = encoded(PICTURE)
    return data[:33] + b"".join(chunks) + data[33:]


def jpeg_segment(marker: int, content: bytes) -> bytes:
    """A segment with its length."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def jpeg_with(*segments: bytes) -> bytes:
    """A grey picture of 16 x 16 as a JPEG file, with segments at its start."""
    data = encoded(Image.new("RGB", (16, 16), (90, 90, 90)), "JPEG")
    return data[:2] + b"".join(segments) + data[2:]


def jpeg_announcing(width: int, height: int) -> bytes:
    """A JPEG file whose frame header has this size."""
    data = bytearray(jpeg_with())
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def frames_of_a_jpeg(icc: bytes) -> list[bytes]:
    """An ICC profile in as many segments as it needs."""
    parts = [icc[start : start + 60_000] for start in range(0, len(icc), 60_000)]
    return [
        jpeg_segment(0xE2, b"ICC_PROFILE\0" + bytes([number, len(parts)]) + part)
        for number, part in enumerate(parts, 1)
    ]


def empty_pictures() -> dict[str, bytes]:
    """Files that announce no pixels at all, or none in one direction."""
    header = struct.pack(">IIBBBBB", 0, 0, 8, 2, 0, 0, 0)
    no_rows = struct.pack("<IiiHHIIiiII", 40, 4, 0, 1, 24, *[0] * 6)
    tags = [(256, 4, 1, 0), (257, 4, 1, 0), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8)]
    gif = b"GIF89a" + struct.pack("<HHBBB", 0, 0, 0, 0, 0) + b"," + struct.pack("<HHHHB", 0, 0, 0, 0, 0)
    return {
        "jpeg": jpeg_announcing(0, 0),
        "jpeg without rows": jpeg_announcing(16, 0),
        "png": b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IEND", b""),
        "gif": gif + b"\x02\x02\x44\x01\x00;",
        "bmp": b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + no_rows,
        "tiff": tiff_of(tags),
        "webp": b"RIFF"
        + struct.pack("<I", 22)
        + b"WEBPVP8 "
        + struct.pack("<I", 10)
        + b"\x10\0\0\x9d\x01\x2a"
        + bytes(4),
    }


def tiff_of(tags: list[tuple[int, int, int, int]], data: bytes = b"", following: int = 0) -> bytes:
    """A little-endian TIFF file, its data at offset 8; the tags are (tag, type, count, value)."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", following)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory


def grey_tiff(width: int, height: int, data: bytes, *tags: tuple[int, int, int, int], following: int = 0) -> bytes:
    """An uncompressed grey TIFF file whose strips hold one row each, where no tag says otherwise."""
    given = {tag[0] for tag in tags}
    fixed = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1)]
    own = [*fixed, (273, 4, 1, 8), (278, 4, 1, 1)]
    return tiff_of([tag for tag in own if tag[0] not in given] + list(tags), data, following)


def polyglots() -> dict[str, bytes]:
    """Pictures that are something else too, for a reader that wants to see it."""
    archive = BytesIO()
    with ZipFile(archive, "w") as folder:
        folder.writestr("run.sh", "echo hello")
    document = b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog >>\nendobj\ntrailer << /Root 1 0 R >>\n%%EOF\n"
    script = b"*/=1;alert(1);//"
    return {
        "gif and script": encoded(PICTURE, "GIF") + script,
        "png and page": encoded(PICTURE) + b"<html><script>alert(1)</script></html>",
        "jpeg and archive": jpeg_with() + archive.getvalue(),
        "jpeg and document": jpeg_with(jpeg_segment(0xFE, document)),
        "bmp and script": encoded(PICTURE, "BMP") + script,
        "tiff and archive": encoded(PICTURE, "TIFF") + archive.getvalue(),
        "webp and script": encoded(PICTURE, "WEBP", lossless=True) + script,
    }


def text_bombs() -> dict[str, bytes]:
    """PNG files of a few kilobytes whose metadata unpack to megabytes."""
    bomb = zlib.compress(bytes(64 * MEBIBYTE), 9)
    allowed = zlib.compress(bytes(MEBIBYTE), 9)
    return {
        "zTXt": png_with(png_chunk(b"zTXt", b"a\0\0" + bomb)),
        "iTXt": png_with(png_chunk(b"iTXt", b"a\0\1\0\0\0" + bomb)),
        "iCCP": png_with(png_chunk(b"iCCP", b"a\0\0" + bomb)),
        "many zTXt": png_with(*(png_chunk(b"zTXt", b"%d\0\0" % index + allowed) for index in range(100))),
    }

"""Small plain PNG files, and the fastest decoder for them.

Pillow and pyspng make the same pixels of them. Pillow gives Python's lock away while it decodes, and with small files
waits longer to have it back than it decodes; pyspng keeps the lock, for which large files take too long.
"""

from struct import Struct
from zlib import crc32

import numpy as np
import pyspng
from numpy.typing import NDArray

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER = Struct(">8s4s4s2I5s4x")  # signature, length and kind of the first chunk, width, height, form, checksum
_RGB = bytes((8, 2, 0, 0, 0))  # 8 bits a channel, red green blue, not interlaced
_CHUNK, _CHECKSUM = Struct(">I4s"), 4
_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
_MOST_PIXELS = 65_536  # decoded within a millisecond
_MOST_BYTES = 4 * _MOST_PIXELS


def decode_small(data: bytes, max_pixels: int) -> NDArray[np.uint8] | None:
    """RGB pixels (H, W, 3) of a small plain PNG file; None of any other file, and of damaged ones."""
    if not 0 < _announced(data) <= min(_MOST_PIXELS, max_pixels) or not _is_sound(data):
        return None
    try:
        pixels: NDArray[np.uint8] = pyspng.load(data)
    except RuntimeError:
        return None
    return pixels


def _announced(data: bytes) -> int:
    """How many pixels the header of a plain PNG file announces; 0 of other files."""
    if not _HEADER.size < len(data) <= _MOST_BYTES or not data.endswith(_END):
        return 0
    signature, length, kind, width, height, form = _HEADER.unpack_from(data)
    is_plain = (signature, length, kind, form) == (_SIGNATURE, b"\0\0\0\r", b"IHDR", _RGB)
    return int(width * height) if is_plain else 0


def _is_sound(data: bytes) -> bool:
    """Whether the header is followed by pixels alone, and every chunk has its checksum, at which pyspng does not look.

    Nor does it look at the one of the pixels before they were compressed.
    """
    place, end, view = len(_SIGNATURE), len(data) - len(_END), memoryview(data)
    while place < end:
        length, kind = _CHUNK.unpack_from(data, place)
        start, stop = place + _CHUNK.size, place + _CHUNK.size + length
        if kind != b"IDAT" and place > len(_SIGNATURE):
            return False
        if stop + _CHECKSUM > end or crc32(view[start - 4 : stop]) != int.from_bytes(view[stop : stop + _CHECKSUM]):
            return False
        place = stop + _CHECKSUM
    return place == end

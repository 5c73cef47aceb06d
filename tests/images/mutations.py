"""Sound image files of every format, and damaged copies of them; the same seed makes the same files."""

import random
import struct
from collections.abc import Callable, Iterator
from functools import cache

from PIL import Image

from conftest import encoded, random_picture

Mutation = Callable[[random.Random, bytearray], None]

_HEADER_BYTES = 64
_EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_LENGTHS_BEFORE = (b"IHDR", b"IDAT", b"PLTE", b"tRNS", b"acTL", b"fcTL", b"fdAT", b"eXIf", b"IEND")
_LENGTHS_BEHIND = (
    b"RIFF",
    b"VP8 ",
    b"VP8L",
    b"VP8X",
    b"ANMF",
    b"EXIF",
    b"\xff\xc0",
    b"\xff\xc4",
    b"\xff\xda",
    b"\xff\xe1",
)


@cache
def sound_files() -> dict[str, bytes]:
    """A file for each way of keeping pixels in the allowed formats."""
    picture, other = random_picture(1, 40, 30), Image.new("RGB", (40, 30), (0, 0, 255))
    smooth = random_picture(2, 8, 6).resize((64, 48), Image.Resampling.BICUBIC)
    grey16 = Image.frombytes("I;16", (16, 16), bytes(range(256)) * 2)
    turned = Image.Exif()
    turned[274] = 6
    frames = {"save_all": True, "append_images": [other.copy(), smooth.resize((40, 30))]}
    files = {
        "jpeg": encoded(smooth, "JPEG", exif=turned),
        "jpeg progressive": encoded(smooth, "JPEG", progressive=True),
        "jpeg cmyk": encoded(smooth.convert("CMYK"), "JPEG", quality=60),
        "jpeg mpo": encoded(smooth, "MPO", save_all=True, append_images=[other]),
        "png": encoded(picture, "PNG", exif=turned),
        "png palette": encoded(smooth.convert("P"), "PNG", transparency=bytes([0, 128])),
        "png alpha": encoded(smooth.convert("LA"), "PNG"),
        "png 16": encoded(grey16, "PNG"),
        "png animated": encoded(picture, "PNG", **frames),
        "webp": encoded(smooth, "WEBP", exif=turned),
        "webp lossless": encoded(picture, "WEBP", lossless=True),
        "webp alpha": encoded(smooth.convert("RGBA"), "WEBP", quality=50),
        "webp animated": encoded(picture, "WEBP", **frames),
        "gif": encoded(smooth, "GIF"),
        "gif animated": encoded(picture, "GIF", **frames),
        "bmp": encoded(picture, "BMP"),
        "bmp palette": encoded(smooth.convert("P"), "BMP"),
        "tiff": encoded(picture, "TIFF", exif=turned),
        "tiff 16": encoded(grey16, "TIFF"),
        "tiff pages": encoded(picture, "TIFF", **frames),
    }
    packed = {name: f"tiff_{name}" for name in ("lzw", "deflate")} | {name: name for name in ("jpeg", "packbits")}
    files |= {f"tiff {name}": encoded(smooth, "TIFF", compression=coding) for name, coding in packed.items()}
    return files


def corpus(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Damaged files, each with a name that says what was done to what."""
    files, names = sound_files(), list(sound_files())
    for number in range(count):
        chance = random.Random(f"{seed} {number}")
        name = names[number % len(names)]
        mutation = MUTATIONS[chance.choice(list(MUTATIONS))]
        data = bytearray(files[name])
        for _ in range(chance.choice((1, 1, 2, 4))):
            mutation(chance, data)
        yield f"{number}: {mutation.__name__} in {name}", bytes(data)


def flip_bits(chance: random.Random, data: bytearray) -> None:
    """Turn a few bits over, anywhere."""
    for _ in range(chance.randint(1, 16) if data else 0):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def cut(chance: random.Random, data: bytearray) -> None:
    """Keep the start."""
    del data[chance.randrange(len(data) + 1) :]


def drop(chance: random.Random, data: bytearray) -> None:
    """Leave a piece out."""
    start = chance.randrange(len(data) + 1)
    del data[start : start + chance.randint(1, 200)]


def repeat(chance: random.Random, data: bytearray) -> None:
    """Put a piece in many times more."""
    start = chance.randrange(len(data) + 1)
    piece = data[start : start + chance.randint(1, 200)]
    data[start:start] = piece * chance.choice((1, 3, 30))


def splice(chance: random.Random, data: bytearray) -> None:
    """Go on with the rest of another file."""
    other = sound_files()[chance.choice(list(sound_files()))]
    data[chance.randrange(len(data) + 1) :] = other[chance.randrange(len(other)) :]


def change_header(chance: random.Random, data: bytearray) -> None:
    """Write an extreme number over one of the first."""
    _overwrite(chance, data, chance.randrange(_HEADER_BYTES))


def change_length(chance: random.Random, data: bytearray) -> None:
    """Write an extreme number over the length of a chunk or segment; over any number where there are none."""
    places = [place - 4 for kind in _LENGTHS_BEFORE if (place := data.find(kind)) >= 4]
    places += [place + len(kind) for kind in _LENGTHS_BEHIND if (place := data.find(kind)) >= 0]
    _overwrite(chance, data, chance.choice(places or [chance.randrange(len(data) + 1)]))


def _overwrite(chance: random.Random, data: bytearray, place: int) -> None:
    number = chance.choice((*_EXTREMES, chance.getrandbits(16), chance.getrandbits(32)))
    form = chance.choice(("<H", ">H", "<I", ">I"))
    field = struct.pack(form, number & (0xFFFF if form[1] == "H" else 0xFFFFFFFF))
    data[place : place + len(field)] = field


MUTATIONS: dict[str, Mutation] = {
    mutation.__name__: mutation for mutation in (flip_bits, cut, drop, repeat, splice, change_header, change_length)
}

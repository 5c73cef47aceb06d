"""Image files to measure with: those of a folder or pattern, or generated ones as hard to decode as photographs.

Natural pictures have amplitudes that fall with one over the frequency, and channels that go together. Noise made so
compresses and decodes like them; white noise or plain colours would not.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from glob import glob
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oodgate.api.predict import file_picture
from oodgate.bundle import Manifest
from oodgate.errors import RequestError, SetupError
from oodgate.settings import IMAGE_TYPES, Settings

Floats = NDArray[np.float32]

PHOTOGRAPH = (500, 375)
THUMBNAIL = (32, 32)
FILES = 32
"""How many are generated; of more than eight times as many found a seeded choice is taken."""

_LARGE_INPUT = 128
_CONTRAST, _COLOUR = 50.0, 0.25
_FALL = 1.2
_JPEG_QUALITY = 92
_MOST_OWN_PIXELS = 1_000_000
_SUFFIXES = {"jpg": "jpeg", "tif": "tiff"}


@dataclass(frozen=True)
class ImageFile:
    """The bytes of an image file and the type that announces it."""

    data: bytes
    content_type: str


def read_files(where: str, settings: Settings) -> list[ImageFile]:
    """The image files below a folder or of a pattern; raises SetupError where one cannot be sent or there are none."""
    found = Path(where).rglob("*") if Path(where).is_dir() else map(Path, glob(where, recursive=True))  # noqa: PTH207  # absolute patterns
    paths = sorted(path for path in found if _format(path) in IMAGE_TYPES)
    if not paths:
        raise SetupError(f"there is no image file in '{where}'; name a folder or a pattern such as 'images/*.jpg'")
    if len(paths) > 8 * FILES:
        paths = random.Random(0).sample(paths, 8 * FILES)  # noqa: S311  # a choice of files, no secret
    return [_read(path, settings) for path in paths]


def _read(path: Path, settings: Settings) -> ImageFile:
    """One file; raises SetupError naming it where the service would refuse it."""
    data = path.read_bytes()
    try:
        file_picture(data, settings)()
    except RequestError as error:
        raise SetupError(f"{path}: {error}") from error
    return ImageFile(data, IMAGE_TYPES[_format(path)][0])


def files_for(manifest: Manifest, where: str | None, settings: Settings) -> list[ImageFile]:
    """The operator's files, or generated ones of a size that such a network is given."""
    if where:
        return read_files(where, settings)
    files = photographs(*PHOTOGRAPH, FILES) if min(manifest.preprocessing.crop) >= _LARGE_INPUT else thumbnails(FILES)
    if files[0].content_type not in settings.content_types:
        raise SetupError(f"the service takes no generated images, {files[0].content_type}; name some with --files")
    return files


def photographs(width: int, height: int, number: int) -> list[ImageFile]:
    """Seeded JPEG files of this size."""
    return [ImageFile(encode(picture(width, height, seed), "JPEG"), "image/jpeg") for seed in range(number)]


def thumbnails(number: int) -> list[ImageFile]:
    """Seeded PNG files of 32 x 32 pixels."""
    return [ImageFile(encode(picture(*THUMBNAIL, seed), "PNG"), "image/png") for seed in range(number)]


def encode(image: Image.Image, image_format: str) -> bytes:
    """The bytes of an image file."""
    buffer = BytesIO()
    image.save(buffer, image_format, quality=_JPEG_QUALITY)
    return buffer.getvalue()


def picture(width: int, height: int, seed: int) -> Image.Image:
    """A seeded picture with the spectrum of a natural one; of many pixels it is enlarged, as lenses blur them."""
    generator = np.random.default_rng(seed)
    reduced = max(1, round((width * height / _MOST_OWN_PIXELS) ** 0.5))
    drawn = _draw(-(-width // reduced), -(-height // reduced), generator)
    return drawn if reduced == 1 else drawn.resize((width, height), Image.Resampling.BICUBIC)


def _draw(width: int, height: int, generator: np.random.Generator) -> Image.Image:
    light = _pink_noise(width, height, generator)
    colours = [light + _COLOUR * _pink_noise(width, height, generator) for _ in range(3)]
    pixels = 128 + _CONTRAST * np.stack(colours, 2)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _pink_noise(width: int, height: int, generator: np.random.Generator) -> Floats:
    spectrum = np.fft.rfft2(generator.standard_normal((height, width), dtype=np.float32))
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    spectrum[0, 0] = 0
    noise = np.fft.irfft2(spectrum / np.maximum(frequency, 1 / max(width, height)) ** _FALL, (height, width))
    scaled: Floats = (noise / noise.std()).astype(np.float32)
    return scaled


def mean_bytes(files: Sequence[ImageFile]) -> float:
    """Their mean size."""
    return float(np.mean([len(file.data) for file in files]))


def _format(path: Path) -> str:
    suffix = path.suffix.lower().lstrip(".")
    return _SUFFIXES.get(suffix, suffix)

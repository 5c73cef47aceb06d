"""Folders of images, the form in which people keep them, read by the same code that reads requests."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from oodgate.errors import CalibrationError, InvalidImage, TooManyPixels
from oodgate.gate import Pixels, stack
from oodgate.images.decode import decode
from oodgate.images.preprocess import Preprocessing, preprocess
from oodgate.settings import IMAGE_TYPES

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
MAX_PIXELS = 200_000_000


@dataclass(frozen=True)
class ImageFolder:
    """The images below a folder, sorted by path; labels where their folders are named after classes."""

    paths: tuple[Path, ...]
    labels: tuple[int, ...] | None

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: Sequence[int]) -> "ImageFolder":
        """Some of the images, by position."""
        labels = None if self.labels is None else tuple(self.labels[row] for row in rows)
        return ImageFolder(tuple(self.paths[row] for row in rows), labels)


def list_images(folder: Path, classes: Sequence[str] = ()) -> ImageFolder:
    """Find the images below `folder`.

    They are labelled where every image lies in a folder named after one of `classes`. Raises CalibrationError where
    there is no image.
    """
    paths = tuple(sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES))
    if not paths:
        raise CalibrationError(f"there is no image below {folder}; expected files ending in {', '.join(SUFFIXES)}")
    indices = {name: index for index, name in enumerate(classes)}
    if all(path.parent.name in indices for path in paths):
        return ImageFolder(paths, tuple(indices[path.parent.name] for path in paths))
    return ImageFolder(paths, None)


def read_image(path: Path, preprocessing: Preprocessing) -> Pixels:
    """Decode and preprocess one file as the service does; raises CalibrationError naming the file."""
    try:
        return preprocess(decode(path.read_bytes(), MAX_PIXELS, tuple(IMAGE_TYPES)), preprocessing)
    except (InvalidImage, TooManyPixels) as error:
        raise CalibrationError(f"{path}: {error}; remove or replace the file") from error


def read_batches(paths: Sequence[Path], preprocessing: Preprocessing, size: int) -> Iterator[Tensor]:
    """uint8 pixels (n, H, W, 3) of consecutive files, n at most `size`; the next batch is read while one is used."""

    def read(batch: Sequence[Path]) -> Tensor:
        return stack([read_image(path, preprocessing) for path in batch])

    batches = [paths[start : start + size] for start in range(0, len(paths), size)]
    with ThreadPoolExecutor(1, thread_name_prefix="oodgate-read") as reader:
        coming = reader.submit(read, batches[0])
        for following in batches[1:]:
            pixels, coming = coming.result(), reader.submit(read, following)
            yield pixels
        yield coming.result()

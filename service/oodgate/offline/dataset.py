"""Folders of images, the form in which people keep them, read by the same code that reads requests."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from oodgate.errors import CalibrationError, RequestError
from oodgate.images.opening import FilePicture
from oodgate.pixels import Opener, Pixels, Ready, stack
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
    paths = tuple(sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and not path.is_dir()))
    if not paths:
        raise CalibrationError(f"there is no image below {folder}; expected files ending in {', '.join(SUFFIXES)}")
    indices = {name: index for index, name in enumerate(classes)}
    if all(path.parent.name in indices for path in paths):
        return ImageFolder(paths, tuple(indices[path.parent.name] for path in paths))
    return ImageFolder(paths, None)


def read_images(paths: Sequence[Path], opener: Opener) -> list[Pixels]:
    """Open files as the service does; raises CalibrationError naming the one that cannot be opened."""
    return [_pixels_of(path, one) for path, one in zip(paths, open_files(paths, opener), strict=True)]


def open_files(paths: Sequence[Path], opener: Opener) -> Sequence[Ready | RequestError]:
    """Open files as the service does; each or what is wrong with it, in order."""
    return opener.open([file_picture(path) for path in paths])


def file_picture(path: Path) -> FilePicture:
    """A file as the service takes it, in all formats that it knows."""
    return FilePicture(path.read_bytes(), MAX_PIXELS, tuple(IMAGE_TYPES))


def _pixels_of(path: Path, opened: Ready | RequestError) -> Pixels:
    if isinstance(opened, RequestError):
        raise CalibrationError(f"{path}: {opened}; remove or replace the file") from opened
    return opened.pixels


def read_batches(paths: Sequence[Path], opener: Opener, size: int) -> Iterator[Tensor]:
    """uint8 pixels (n, H, W, 3) of consecutive files, n at most `size`; the next batch is read while one is used."""

    def read(batch: Sequence[Path]) -> Tensor:
        return stack(read_images(batch, opener))

    batches = [paths[start : start + size] for start in range(0, len(paths), size)]
    with ThreadPoolExecutor(1, thread_name_prefix="oodgate-read") as reader:
        coming = reader.submit(read, batches[0])
        for following in batches[1:]:
            pixels, coming = coming.result(), reader.submit(read, following)
            yield pixels
        yield coming.result()

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
_MOST_NAMED = 20


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
    """Open files as the service does; raises CalibrationError naming those that cannot be opened."""
    opened = open_files(paths, opener)
    if broken := _broken(paths, opened):
        raise _unreadable(broken)
    return [one.pixels for one in opened if not isinstance(one, RequestError)]


def open_files(paths: Sequence[Path], opener: Opener) -> Sequence[Ready | RequestError]:
    """Open files as the service does; each or what is wrong with it, in order."""
    return opener.open([file_picture(path) for path in paths])


def file_picture(path: Path) -> FilePicture:
    """A file as the service takes it, in all formats that it knows."""
    return FilePicture(path.read_bytes(), MAX_PIXELS, tuple(IMAGE_TYPES))


def read_batches(paths: Sequence[Path], opener: Opener, size: int) -> Iterator[Tensor]:
    """uint8 pixels (n, H, W, 3) of consecutive files, n at most `size`; the next batch is read while one is used.

    Raises CalibrationError naming all files that cannot be opened, once the first of them is met.
    """

    def read(start: int) -> Tensor:
        try:
            return stack(read_images(paths[start : start + size], opener))
        except CalibrationError:
            parts = (paths[first : first + size] for first in range(start, len(paths), size))
            raise _unreadable([found for part in parts for found in _broken(part, open_files(part, opener))]) from None

    with ThreadPoolExecutor(1, thread_name_prefix="oodgate-read") as reader:
        coming = reader.submit(read, 0)
        for start in range(size, len(paths), size):
            pixels, coming = coming.result(), reader.submit(read, start)
            yield pixels
        yield coming.result()


def _broken(paths: Sequence[Path], opened: Sequence[Ready | RequestError]) -> list[tuple[Path, RequestError]]:
    return [(path, one) for path, one in zip(paths, opened, strict=True) if isinstance(one, RequestError)]


def _unreadable(broken: Sequence[tuple[Path, RequestError]]) -> CalibrationError:
    named = "; ".join(f"{path} ({error})" for path, error in broken[:_MOST_NAMED])
    others = f"; and {len(broken) - _MOST_NAMED} more" if len(broken) > _MOST_NAMED else ""
    return CalibrationError(f"remove or replace files that cannot be opened, {len(broken)} here: {named}{others}")

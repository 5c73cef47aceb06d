"""Strange pictures grown from a small crop of in-distribution ones."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oodgate.offline.strangeness.canvas import Pictures

Places = NDArray[np.int64]
Fold = Callable[[Places, Places], Places]


def tiles(pictures: Pictures, generator: np.random.Generator) -> Pictures:
    """A small crop side by side with itself; stands for wallpaper, brick walls and repeated texture."""
    return _repeated(pictures, generator, lambda place, side: place % side)


def mirrored_tiles(pictures: Pictures, generator: np.random.Generator) -> Pictures:
    """A small crop and its reflections, without seams; stands for kaleidoscopes, carpets and tiled floors."""
    return _repeated(pictures, generator, lambda place, side: np.minimum(place % (2 * side), -(place + 1) % (2 * side)))


def zoomed_crops(pictures: Pictures, generator: np.random.Generator) -> Pictures:
    """A crop of a sixth to two fifths of each side, enlarged; stands for close-ups, blur and poor digital zoom."""
    return np.stack([_enlarged(picture, generator) for picture in pictures])


def _repeated(pictures: Pictures, generator: np.random.Generator, fold: Fold) -> Pictures:
    count, height, width, _ = pictures.shape
    parts = generator.integers(2, 7, (count, 1))
    rows = _folded(height, parts, generator, fold)
    columns = _folded(width, parts, generator, fold)
    return pictures[np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]


def _folded(length: int, parts: Places, generator: np.random.Generator, fold: Fold) -> Places:
    """For each place of a side, the place it is copied from, (N, length): inside a window of a part of the side."""
    side = np.maximum(length // parts, 2)
    start = generator.integers(0, length - side + 1)
    return start + fold(np.arange(length), side)


def _enlarged(picture: Pictures, generator: np.random.Generator) -> Pictures:
    size = np.array(picture.shape[1::-1])  # width, height
    crop = size * generator.uniform(1 / 6, 2 / 5)
    left, top = generator.uniform(0, size - crop)
    box = (left, top, left + crop[0], top + crop[1])
    return np.array(Image.fromarray(picture).resize(tuple(size.tolist()), Image.Resampling.BICUBIC, box=box))

"""Strange pictures made of in-distribution ones whose colours change, or of several that share one picture."""

import numpy as np

from oodgate.offline.strangeness.canvas import Pictures, uniform_per_picture


def blends(pictures: Pictures, generator: np.random.Generator) -> Pictures:
    """Two pictures seen through each other; stands for double exposures, reflections in glass and cross-fades."""
    share = uniform_per_picture(0.35, 0.65, len(pictures), generator)[..., None]
    blended = pictures * share + _partners(pictures, generator) * (1 - share)
    return np.round(blended).astype(np.uint8)


def halves(pictures: Pictures, generator: np.random.Generator) -> Pictures:
    """Half of one picture beside half of another, or above it; stands for collages, split screens and album pages."""
    count, height, width, _ = pictures.shape
    above = (np.arange(height) < height // 2)[None, :, None, None]
    left = (np.arange(width) < width // 2)[None, None, :, None]
    stacked = generator.random((count, 1, 1, 1)) < 0.5
    return np.where(np.where(stacked, above, left), pictures, _partners(pictures, generator))


def collages(pictures: Pictures, generator: np.random.Generator) -> Pictures:
    """A quarter of each of four pictures; stands for contact sheets, mosaics and shop windows."""
    height, width = pictures.shape[1:3]
    below, right = np.arange(height) >= height // 2, np.arange(width) >= width // 2
    quarter = (2 * below[:, None] + right)[None, ..., None]
    collage: Pictures = np.choose(quarter, [pictures, *(_partners(pictures, generator) for _ in range(3))])
    return collage


def insets(pictures: Pictures, generator: np.random.Generator) -> Pictures:
    """A rectangle of another picture, half as wide and high, at its own place; stands for stickers and occlusion."""
    count, height, width, _ = pictures.shape
    top, left = generator.random((2, count, 1, 1))
    rows, columns = np.arange(height)[None, :, None] - top * (height // 2), np.arange(width) - left * (width // 2)
    inside = (rows >= 0) & (rows < height // 2) & (columns >= 0) & (columns < width // 2)
    return np.where(inside[..., None], _partners(pictures, generator), pictures)


def negatives(pictures: Pictures, generator: np.random.Generator) -> Pictures:
    """Every value turned over; stands for film negatives, X-rays and wrongly read palettes."""
    return 255 - pictures


def rotated_colours(pictures: Pictures, generator: np.random.Generator) -> Pictures:
    """Channels passed on in a circle, so every hue moves by a third; stands for false colours and tinted light."""
    shift = generator.integers(1, 3, (len(pictures), 1, 1, 1))
    return np.take_along_axis(pictures, (np.arange(3) + shift) % 3, axis=3)


def _partners(pictures: Pictures, generator: np.random.Generator) -> Pictures:
    """Another picture for each: one of the batch, or itself upside down where it is alone."""
    if len(pictures) == 1:
        return pictures[:, ::-1]
    return np.roll(pictures, int(generator.integers(1, len(pictures))), axis=0)

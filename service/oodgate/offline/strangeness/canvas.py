"""What the families of strange pictures share: their types, colours, and the way back to pixels."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Pictures = NDArray[np.uint8]  # (N, H, W, 3)
Floats = NDArray[np.float32]
Family = Callable[[Pictures, np.random.Generator], Pictures]


def to_pixels(values: Floats) -> Pictures:
    """0 .. 1 -> uint8; what lies outside is clipped."""
    return np.round(np.clip(values, 0, 1) * 255).astype(np.uint8)


def full_colours(hue: Floats) -> Floats:
    """Hues, of period 1, at full saturation and brightness: (...) -> (..., 3)."""
    distance = np.abs((hue[..., None] * 6 + np.array([0, 4, 2], dtype=np.float32)) % 6 - 3)
    return np.clip(distance - np.float32(1), 0, 1)


def colour_pairs(count: int, generator: np.random.Generator) -> tuple[Floats, Floats]:
    """Two colours for each of `count` pictures, (count, 1, 1, 3) each, that differ by 0.3 or more in every channel."""
    first = generator.random((count, 1, 1, 3), dtype=np.float32)
    step = generator.uniform(0.3, 0.7, first.shape).astype(np.float32)
    return first, (first + step) % 1


def between(first: Floats, second: Floats, share: Floats) -> Floats:
    """Colours (N, 1, 1, 3) mixed by `share` (N, H, W), the part of the second -> (N, H, W, 3)."""
    return first + (second - first) * share[..., None]


def uniform_per_picture(low: float, high: float, count: int, generator: np.random.Generator) -> Floats:
    """One number for each picture, (count, 1, 1), so that it meets (count, H, W)."""
    return generator.uniform(low, high, (count, 1, 1)).astype(np.float32)


def pixel_positions(pictures: Pictures) -> tuple[Floats, Floats]:
    """Rows (1, H, 1) and columns (1, 1, W) of the pixels, counted from the centre."""
    height, width = pictures.shape[1:3]
    rows = np.arange(height, dtype=np.float32) - (height - 1) / 2
    columns = np.arange(width, dtype=np.float32) - (width - 1) / 2
    return rows[None, :, None], columns[None, None, :]


def turned_positions(pictures: Pictures, generator: np.random.Generator) -> tuple[Floats, Floats]:
    """Coordinates of the pixels along two axes turned by a random angle, one angle for each picture, (N, H, W) each."""
    rows, columns = pixel_positions(pictures)
    angle = uniform_per_picture(0, np.pi, len(pictures), generator)
    along = columns * np.cos(angle) + rows * np.sin(angle)
    across = rows * np.cos(angle) - columns * np.sin(angle)
    return along, across

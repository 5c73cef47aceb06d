"""Strange pictures with next to nothing in them. Only the shape of the pictures given is used."""

import numpy as np

from oodgate.offline.strangeness.canvas import (
    Pictures,
    between,
    colour_pairs,
    pixel_positions,
    to_pixels,
    turned_positions,
    uniform_per_picture,
)


def flat_colours(pictures: Pictures, generator: np.random.Generator) -> Pictures:
    """One colour; stands for a covered lens, an empty page or a picture that failed to load."""
    colours = generator.integers(0, 256, (len(pictures), 1, 1, 3), dtype=np.uint8)
    return np.broadcast_to(colours, pictures.shape).copy()


def linear_gradients(pictures: Pictures, generator: np.random.Generator) -> Pictures:
    """One colour going over into another along a line; stands for sky, walls and backgrounds of slides."""
    along, _ = turned_positions(pictures, generator)
    along -= along.min((1, 2), keepdims=True)
    share = along / along.max((1, 2), keepdims=True)
    return to_pixels(between(*colour_pairs(len(pictures), generator), share))


def radial_gradients(pictures: Pictures, generator: np.random.Generator) -> Pictures:
    """One colour going over into another around a point; stands for lamps, flashes, lens shade and the sun in fog."""
    count, height, width, _ = pictures.shape
    rows, columns = pixel_positions(pictures)
    rows = rows - uniform_per_picture(-0.3, 0.3, count, generator) * height
    columns = columns - uniform_per_picture(-0.3, 0.3, count, generator) * width
    reach = uniform_per_picture(0.3, 0.9, count, generator) * max(height, width)
    share = np.clip(np.hypot(rows, columns) / reach, 0, 1)
    return to_pixels(between(*colour_pairs(count, generator), share))

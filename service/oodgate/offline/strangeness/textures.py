"""Strange pictures of geometric textures. Only the shape of the pictures given is used.

Lengths are in pixels; an edge goes from one colour to the other over one pixel, which spares drawing larger and
shrinking.
"""

import numpy as np

from oodgate.offline.strangeness.canvas import (
    Floats,
    Pictures,
    between,
    colour_pairs,
    to_pixels,
    turned_positions,
    uniform_per_picture,
)

_FINEST_PERIOD = 4.0
_SEEDS = 24


def stripes(pictures: Pictures, generator: np.random.Generator) -> Pictures:
    """Bars of two colours at any angle; stands for blinds, fences, bar codes and striped cloth."""
    along, _ = turned_positions(pictures, generator)
    share = _bars(along, _periods(pictures, generator))
    return to_pixels(between(*colour_pairs(len(pictures), generator), share))


def gratings(pictures: Pictures, generator: np.random.Generator) -> Pictures:
    """Sine waves at any angle; stands for moire, ripples, interference and photographed screens."""
    along, _ = turned_positions(pictures, generator)
    share = 0.5 + 0.5 * np.sin(2 * np.pi * along / _periods(pictures, generator))
    return to_pixels(between(*colour_pairs(len(pictures), generator), share))


def checkerboards(pictures: Pictures, generator: np.random.Generator) -> Pictures:
    """Two colours in alternating fields; stands for boards, tiles and calibration targets."""
    along, across = turned_positions(pictures, generator)
    share = _fields(along, across, _periods(pictures, generator))
    return to_pixels(between(*colour_pairs(len(pictures), generator), share))


def dots(pictures: Pictures, generator: np.random.Generator) -> Pictures:
    """A lattice of discs; stands for polka dots, print rasters, perforated sheet and bubbles."""
    along, across = turned_positions(pictures, generator)
    period = _periods(pictures, generator)
    radius = period * uniform_per_picture(0.2, 0.45, len(pictures), generator)
    distance = np.hypot((along % period) - period / 2, (across % period) - period / 2)
    share = np.clip(0.5 + radius - distance, 0, 1)
    return to_pixels(between(*colour_pairs(len(pictures), generator), share))


def weaves(pictures: Pictures, generator: np.random.Generator) -> Pictures:
    """Threads of two colours, rounded by shade, over and under each other; stands for cloth, baskets and nets."""
    along, across = turned_positions(pictures, generator)
    period = _periods(pictures, generator)
    warp, weft = (np.abs(np.sin(2 * np.pi * place / period)) for place in (along, across))
    over = _fields(along, across, period)
    shade = warp + (weft - warp) * over
    colours = between(*colour_pairs(len(pictures), generator), over)
    return to_pixels(colours * (0.3 + 0.7 * shade)[..., None])


def voronoi_cells(pictures: Pictures, generator: np.random.Generator) -> Pictures:
    """Cells of one colour each around random points; stands for cracked earth, scales, giraffes and stained glass."""
    count, height, width, _ = pictures.shape
    places = generator.uniform(0, (height, width), (_SEEDS, count, 2)).astype(np.float32)
    colours = generator.integers(0, 256, (count, _SEEDS, 3), dtype=np.uint8)
    cells = _nearest(places, height, width)
    return colours[np.arange(count)[:, None, None], cells]


def _nearest(places: Floats, height: int, width: int) -> np.ndarray[tuple[int, ...], np.dtype[np.intp]]:
    """Index of the place (places, N, 2) nearest to each pixel, (N, H, W)."""
    count = places.shape[1]
    nearest = np.full((count, height, width), np.inf, dtype=np.float32)
    index = np.zeros((count, height, width), dtype=np.intp)
    rows, columns = np.arange(height)[None, :, None], np.arange(width)[None, None, :]
    # One place at a time: all at once would need `places` times the memory of the pictures.
    for number, place in enumerate(places):
        row, column = place.T[:, :, None, None]
        distance = (rows - row) ** 2 + (columns - column) ** 2
        closer = distance < nearest
        nearest[closer], index[closer] = distance[closer], number
    return index


def _periods(pictures: Pictures, generator: np.random.Generator) -> Floats:
    """From fine to half of the shorter side, all scales alike: (N, 1, 1)."""
    coarsest = max(min(pictures.shape[1:3]) / 2, _FINEST_PERIOD)
    return np.exp(uniform_per_picture(np.log(_FINEST_PERIOD), np.log(coarsest), len(pictures), generator))


def _bars(place: Floats, period: Floats) -> Floats:
    # Near its zeros, sin(2 pi x / period) * period / 2 pi is the distance to the edge in pixels.
    distance: Floats = np.sin(2 * np.pi * place / period) * period / (2 * np.pi)
    bars: Floats = np.clip(0.5 + distance, 0, 1)
    return bars


def _fields(along: Floats, across: Floats, period: Floats) -> Floats:
    return 0.5 + 0.5 * (2 * _bars(along, period) - 1) * (2 * _bars(across, period) - 1)

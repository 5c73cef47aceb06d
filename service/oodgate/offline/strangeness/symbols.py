"""Strange pictures of drawn symbols that no photograph shows. Only the shape of the pictures given is used.

Strokes are drawn larger and shrunk, which smooths their edges; lengths are relative to the shorter side.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from oodgate.offline.strangeness.canvas import Floats, Pictures, between, colour_pairs, to_pixels, uniform_per_picture

Points = NDArray[np.float64]  # (points, 2), x and y in pixels
_ENLARGED = 4
_CURVE_STEPS = np.linspace(0, 1, 16)[:, None]


def angular_symbols(pictures: Pictures, generator: np.random.Generator) -> Pictures:
    """Straight strokes, grey on grey of either polarity; stands for runes, carved letters, plans and road marks."""
    return _grey(_inks(pictures, generator, _corners, (0.03, 0.1)), generator)


def curved_symbols(pictures: Pictures, generator: np.random.Generator) -> Pictures:
    """Bent strokes, grey on grey of either polarity; stands for handwriting, digits and foreign scripts."""
    return _grey(_inks(pictures, generator, _bends, (0.03, 0.1)), generator)


def coloured_symbols(pictures: Pictures, generator: np.random.Generator) -> Pictures:
    """Broad bent strokes, one colour on another; stands for house numbers, signs, logos and graffiti."""
    inks = _inks(pictures, generator, _bends, (0.08, 0.14))
    return to_pixels(between(*colour_pairs(len(pictures), generator), inks))


def _grey(inks: Floats, generator: np.random.Generator) -> Pictures:
    dark = uniform_per_picture(0, 0.2, len(inks), generator)
    light = uniform_per_picture(0.8, 1, len(inks), generator)
    lit = generator.random((len(inks), 1, 1)) < 0.5
    ground, ink = np.where(lit, dark, light), np.where(lit, light, dark)
    return np.repeat(to_pixels(ground + (ink - ground) * inks)[..., None], 3, axis=3)


def _inks(
    pictures: Pictures,
    generator: np.random.Generator,
    stroke: Callable[[np.random.Generator], Points],
    widths: tuple[float, float],
) -> Floats:
    """How much ink covers each pixel, 0 .. 1, (N, H, W): one to three strokes each, of one width."""
    count, height, width, _ = pictures.shape
    inks = [
        _drawn([stroke(generator) for _ in range(generator.integers(1, 4))], generator.uniform(*widths), height, width)
        for _ in range(count)
    ]
    return np.stack(inks)


def _corners(generator: np.random.Generator) -> Points:
    return generator.uniform(0.15, 0.85, (generator.integers(3, 6), 2))


def _bends(generator: np.random.Generator) -> Points:
    """A cubic Bezier curve; its inner control points may lie outside the picture, which bends it more."""
    start, first, second, end = generator.uniform((0.15, -0.2, -0.2, 0.15), (0.85, 1.2, 1.2, 0.85), (2, 4)).T
    t = _CURVE_STEPS
    curve: Points = (1 - t) ** 3 * start + 3 * (1 - t) ** 2 * t * first + 3 * (1 - t) * t**2 * second + t**3 * end
    return np.clip(curve, 0.1, 0.9)


def _drawn(strokes: list[Points], width: float, height: int, breadth: int) -> Floats:
    """Draw strokes, given in 0 .. 1, into a centred square of the picture; ink 0 .. 1, (H, W)."""
    image = Image.new("L", (breadth * _ENLARGED, height * _ENLARGED))
    side = min(image.size)
    corner = (np.array(image.size) - side) / 2
    pen = ImageDraw.Draw(image)
    for stroke in strokes:
        points = [(float(x), float(y)) for x, y in stroke * side + corner]
        pen.line(points, fill=255, width=max(round(width * side), 1), joint="curve")
        for x, y in (points[0], points[-1]):  # round ends: the line's own are cut square
            pen.circle((x, y), width * side / 2, fill=255)
    return np.array(image.reduce(_ENLARGED), dtype=np.float32) / np.float32(255)

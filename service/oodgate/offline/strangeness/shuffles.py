"""Strange pictures that keep what in-distribution ones are made of, and lose where it was."""

import numpy as np
from numpy.typing import NDArray

from oodgate.offline.strangeness.canvas import Pictures


def patch_shuffles_2(pictures: Pictures, generator: np.random.Generator) -> Pictures:
    """Quarters in another order; stands for objects taken apart, and parts without their whole."""
    return _patches_moved(pictures, 2, generator)


def patch_shuffles_4(pictures: Pictures, generator: np.random.Generator) -> Pictures:
    """Sixteenths in another order; stands for rubble, collages and texture without shape."""
    return _patches_moved(pictures, 4, generator)


def pixel_shuffles(pictures: Pictures, generator: np.random.Generator) -> Pictures:
    """Pixels in another order; stands for noise that has the colours of the known pictures."""
    count, height, width, _ = pictures.shape
    order = _cycles(count, height * width, generator)
    pixels = pictures.reshape(count, height * width, 3)
    return np.take_along_axis(pixels, order[..., None], axis=1).reshape(pictures.shape)


def phase_scrambles(pictures: Pictures, generator: np.random.Generator) -> Pictures:
    """Keeps the amplitude of every frequency, draws its phase anew; stands for natural texture without any object."""
    count, height, width, _ = pictures.shape
    noise = np.fft.rfft2(generator.standard_normal((count, height, width, 1), dtype=np.float32), axes=(1, 2))
    turn = noise / np.abs(noise)
    turn[:, 0, 0] = 1  # keeps the mean colour; the same turn for all channels keeps how they go together
    spectrum = np.fft.rfft2(pictures.astype(np.float32), axes=(1, 2)) * turn
    scrambled = np.fft.irfft2(spectrum, (height, width), axes=(1, 2))
    return np.clip(np.round(scrambled), 0, 255).astype(np.uint8)


def _patches_moved(pictures: Pictures, grid: int, generator: np.random.Generator) -> Pictures:
    """Move every patch of a grid; rows and columns left over by the division stay where they are."""
    count, (height, width) = len(pictures), (side // grid for side in pictures.shape[1:3])
    area = pictures[:, : height * grid, : width * grid]
    patches = area.reshape(count, grid, height, grid, width, 3).swapaxes(2, 3).reshape(count, grid**2, height, width, 3)
    moved = patches[np.arange(count)[:, None], _cycles(count, grid**2, generator)]
    shuffled = pictures.copy()
    shuffled[:, : height * grid, : width * grid] = (
        moved.reshape(count, grid, grid, height, width, 3).swapaxes(2, 3).reshape(area.shape)
    )
    return shuffled


def _cycles(count: int, length: int, generator: np.random.Generator) -> NDArray[np.intp]:
    """Random permutations (count, length) of one cycle each: none leaves a place as it was."""
    order = np.argsort(generator.random((count, length)), axis=1)
    cycles = np.empty_like(order)
    np.put_along_axis(cycles, order, np.roll(order, 1, axis=1), axis=1)
    return cycles

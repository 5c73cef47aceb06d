"""Strange pictures without any object: noise of several spectra. Only the shape of the pictures given is used."""

import numpy as np

from oodgate.offline.strangeness.canvas import Floats, Pictures, full_colours, to_pixels, uniform_per_picture


def white_noise(pictures: Pictures, generator: np.random.Generator) -> Pictures:
    """Every value alike and independent; stands for a broken sensor, or bytes that are no picture."""
    return generator.integers(0, 256, pictures.shape, dtype=np.uint8)


def pink_noise(pictures: Pictures, generator: np.random.Generator) -> Pictures:
    """Amplitude 1/f, that of natural pictures, without content; stands for clutter, foliage and rough surfaces."""
    return to_pixels(0.5 + 0.2 * _coloured(pictures.shape, 1, generator))


def brown_noise(pictures: Pictures, generator: np.random.Generator) -> Pictures:
    """Amplitude 1/f^2; stands for clouds, smoke and pictures far out of focus."""
    return to_pixels(0.5 + 0.2 * _coloured(pictures.shape, 2, generator))


def grey_noise(pictures: Pictures, generator: np.random.Generator) -> Pictures:
    """Between white and 1/f in one channel; stands for the grain of radar, ultrasound and film in the dark."""
    count, height, width, _ = pictures.shape
    grain = _coloured((count, height, width, 1), 0.5, generator)
    return np.repeat(to_pixels(0.5 + 0.25 * grain), 3, axis=3)


def hue_noise(pictures: Pictures, generator: np.random.Generator) -> Pictures:
    """Smooth noise as hue at full saturation; stands for heat maps, false colours and broken colour decoding."""
    count, height, width, _ = pictures.shape
    turn = uniform_per_picture(0, 1, count, generator)
    return to_pixels(full_colours(turn + 0.25 * _coloured((count, height, width, 1), 2, generator)[..., 0]))


def block_noise(pictures: Pictures, generator: np.random.Generator) -> Pictures:
    """Random colours in 2 to 12 cells per side; stands for mosaics, test cards and video decoded from lost data."""
    count, height, width, _ = pictures.shape
    cells = generator.integers(2, 13, (count, 1))
    colours = generator.integers(0, 256, (count, 12, 12, 3), dtype=np.uint8)
    rows = np.arange(height) * cells // height  # (N, H)
    columns = np.arange(width) * cells // width  # (N, W)
    blocks: Pictures = colours[np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]
    return blocks


def _coloured(shape: tuple[int, ...], exponent: float, generator: np.random.Generator) -> Floats:
    """Noise (N, H, W, channels) whose amplitude falls as 1/f^exponent; mean 0, deviation 1 in each channel."""
    height, width = shape[1:3]
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    frequency[0, 0] = 1  # the mean is taken off below
    spectrum = np.fft.rfft2(generator.standard_normal(shape, dtype=np.float32), axes=(1, 2))
    weight = (frequency**-exponent).astype(np.float32)[None, :, :, None]
    noise: Floats = np.fft.irfft2(spectrum * weight, (height, width), axes=(1, 2)).astype(np.float32)
    standardised: Floats = (noise - noise.mean((1, 2), keepdims=True)) / noise.std((1, 2), keepdims=True)
    return standardised

"""Plain JPEG files, of which every decoder makes the same picture but for rounding; and the fastest decoder for them.

Pillow and simplejpeg have the same library decode them, to the same bits. Pillow hands it the file in small pieces and
makes a fourth byte of every pixel, which is taken out again later.
"""

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from oodgate.images.orientation import UPRIGHT, orientation

_COMPONENTS = ([1], [1, 2, 3])  # grey levels, or brightness and two colours; other numbers may say other colours
_COLOURS = 1  # what Adobe's marker says of brightness and two colours


def is_plain(image: Image.Image) -> bool:
    """Whether a picture that was opened, and not loaded yet, comes from a plain JPEG file."""
    if image.format != "JPEG":
        return False
    components = [layer[0] for layer in getattr(image, "layer", ())]
    colours = image.info.get("adobe_transform", _COLOURS)
    return components in _COMPONENTS and colours == _COLOURS and orientation(image) == UPRIGHT


def decode_plain(data: bytes, width: int, height: int) -> NDArray[np.uint8] | None:
    """RGB pixels (H, W, 3) of a plain JPEG file of this size; None where it is damaged, or of another size."""
    pixels = np.empty((height, width, 3), np.uint8)
    try:
        found: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "RGB", buffer=pixels)  # refuses what does not fit in
    except ValueError:
        return None
    return pixels if found.shape == pixels.shape else None

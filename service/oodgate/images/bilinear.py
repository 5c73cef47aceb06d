"""Bilinear resizing of uint8 pixels: Pillow's filter on torch's vector instructions."""

import numpy as np
import torch
from numpy.typing import NDArray


def resize_bilinear(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Pixels (H, W, 3) with another height and width, antialiased; one grey level from Pillow's at most."""
    # At a quarter of Pillow's time. The bicubic one strays from Pillow's.
    # Torch sees that colours lie side by side by the strides of a whole batch; else it takes them apart and copies.
    images = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(images, size=(height, width), mode="bilinear", antialias=True)
    found: NDArray[np.uint8] = resized[0].permute(1, 2, 0).numpy()
    return found

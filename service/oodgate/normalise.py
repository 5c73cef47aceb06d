"""uint8 pixels -> what a network reads: on its device, normalised floats, channels first."""

import torch
from torch import Tensor

from oodgate.images.preprocess import Preprocessing


class Normalise:
    """Pixels (N, H, W, 3) -> images (N, 3, H, W) on a device: (pixel / 255 - mean) / std for each channel."""

    def __init__(self, preprocessing: Preprocessing, device: torch.device, dtype: torch.dtype) -> None:
        self.device = device
        self._mean = 255 * torch.tensor(preprocessing.mean, device=device)
        self._factor = 1 / (255 * torch.tensor(preprocessing.std, device=device))
        self._dtype = dtype

    def __call__(self, pixels: Tensor) -> Tensor:  # noqa: D102
        here = uploaded(pixels, self.device)
        # The transpose of (N, H, W, 3) is channels_last memory, the layout that convolutions are fastest in.
        return here.float().sub_(self._mean).mul_(self._factor).to(self._dtype).permute(0, 3, 1, 2)


def uploaded(pixels: Tensor, device: torch.device) -> Tensor:
    """The pixels on the device; the host does not wait for them to arrive."""
    if device.type == "cuda" and pixels.device.type == "cpu":
        pinned = pixels if pixels.is_pinned() else pixels.pin_memory()
        return pinned.to(device, non_blocking=True)
    return pixels

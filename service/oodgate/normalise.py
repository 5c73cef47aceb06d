"""uint8 pixels -> what a network reads: normalised floats, channels first."""

import torch
from torch import Tensor

from oodgate.images.preprocess import Preprocessing


class Normalise:
    """Pixels (N, H, W, 3) on a device -> images (N, 3, H, W): (pixel / 255 - mean) / std for each channel."""

    def __init__(self, preprocessing: Preprocessing, device: torch.device, dtype: torch.dtype) -> None:
        self._mean = 255 * torch.tensor(preprocessing.mean, device=device)
        self._factor = 1 / (255 * torch.tensor(preprocessing.std, device=device))
        self._dtype = dtype

    def __call__(self, pixels: Tensor) -> Tensor:  # noqa: D102
        # The transpose of (N, H, W, 3) is channels_last memory, the layout that convolutions are fastest in.
        return pixels.float().sub_(self._mean).mul_(self._factor).to(self._dtype).permute(0, 3, 1, 2)

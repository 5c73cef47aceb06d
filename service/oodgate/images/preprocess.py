"""RGB picture -> uint8 pixels of the network's input size: resize, then centre crop, as the bundle says.

Normalising happens on the device (`model.py`): only uint8 pixels travel.
"""

from typing import Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, model_validator

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

_MAX_ASPECT = 32


class Preprocessing(BaseModel):
    """The transform that the network was trained for: torchvision's Resize, CenterCrop and Normalize."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    resize: int = Field(ge=1, le=4096, description="Length of the shorter side after resizing, pixels")
    crop: tuple[int, int] = Field(description="Height and width of the centre crop, pixels")
    interpolation: Interpolation = Field("bilinear", description="Always with antialiasing")
    mean: tuple[float, float, float] = Field(description="Subtracted from channels scaled to 0..1")
    std: tuple[float, float, float] = Field(description="Divides the channels after that")

    @model_validator(mode="after")
    def _crop_fits(self) -> Self:
        if not 1 <= min(self.crop) <= max(self.crop) <= self.resize:
            raise ValueError(f"crop {self.crop} must lie between 1 and the resized side, {self.resize}")
        if min(self.std) <= 0:
            raise ValueError(f"std {self.std} must be positive")
        return self


def preprocess(image: Image.Image, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Resize the shorter side and crop the centre; returns uint8 pixels (H, W, 3).

    Equal to torchvision's Resize (antialiased) and CenterCrop on the same picture, within one grey level.
    """
    pixels = _resize_shorter(_without_far_ends(image), preprocessing)
    height, width = preprocessing.crop
    top, left = round((pixels.shape[0] - height) / 2), round((pixels.shape[1] - width) / 2)
    return np.ascontiguousarray(pixels[top : top + height, left : left + width])


def _without_far_ends(image: Image.Image) -> Image.Image:
    # One by a million pixels would be resized to 32 by 32 million; the centre crop never reaches that far.
    width, height = (min(side, _MAX_ASPECT * min(image.size)) for side in image.size)
    if (width, height) == image.size:
        return image
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _resize_shorter(image: Image.Image, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    short, target = min(image.size), preprocessing.resize
    if short == target:
        return np.array(image)
    width, height = (target * side // short for side in image.size)
    if preprocessing.interpolation == "bilinear":
        return _resize_bilinear(np.array(image), height, width)
    return np.array(image.resize((width, height), _RESAMPLING[preprocessing.interpolation]))


def _resize_bilinear(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    # Pillow's own filter on vector instructions, at a quarter of its time. The bicubic one strays from Pillow's.
    images = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(images, size=(height, width), mode="bilinear", antialias=True)
    found: NDArray[np.uint8] = resized[0].permute(1, 2, 0).numpy()
    return found

"""RGB picture -> uint8 pixels of the network's input size: resize, then centre crop, as the bundle says.

Normalising happens on the device (`model.py`): only uint8 pixels travel.
"""

from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, model_validator

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
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

    Equal to torchvision's Resize (antialiased) and CenterCrop on the same picture.
    """
    image = _resize_shorter(_without_far_ends(image), preprocessing)
    height, width = preprocessing.crop
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    if (left, top, width, height) != (0, 0, image.width, image.height):
        image = image.crop((left, top, left + width, top + height))
    return np.array(image)


def _without_far_ends(image: Image.Image) -> Image.Image:
    # One by a million pixels would be resized to 32 by 32 million; the centre crop never reaches that far.
    width, height = (min(side, _MAX_ASPECT * min(image.size)) for side in image.size)
    if (width, height) == image.size:
        return image
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _resize_shorter(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    short, target = min(image.size), preprocessing.resize
    if short == target:
        return image
    width, height = (target * side // short for side in image.size)
    return image.resize((width, height), _RESAMPLING[preprocessing.interpolation])

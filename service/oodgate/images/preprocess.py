"""RGB pixels of a picture -> those of the network's input size: resize, then centre crop, as the bundle says.

Normalising happens on the device (`model.py`): only uint8 pixels travel.
"""

from math import ceil, floor, prod
from typing import Annotated, Literal, Self

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

# A resized picture is made whole up to this many pixels, and up to this many times those of its crop.
_MOST_RESIZED = 1_000_000
_MOST_RESIZED_PER_CROPPED = 4

_MARGIN = 4  # source pixels beside the crop that a filter reads when it enlarges; times the scale when it reduces


_Side = Annotated[int, Field(ge=1, le=4096)]


class Preprocessing(BaseModel):
    """The transform that the network was trained for: torchvision's Resize, CenterCrop and Normalize."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    resize: _Side | tuple[_Side, _Side] = Field(
        description="Length of the shorter side after resizing, or height and width of the squashed picture, pixels"
    )
    crop: tuple[int, int] = Field(description="Height and width of the centre crop, pixels")
    interpolation: Interpolation = Field("bilinear", description="Always with antialiasing")
    mean: tuple[float, float, float] = Field(description="Subtracted from channels scaled to 0..1")
    std: tuple[float, float, float] = Field(description="Divides the channels after that")

    @model_validator(mode="after")
    def _crop_fits(self) -> Self:
        sides = (self.resize, self.resize) if isinstance(self.resize, int) else self.resize
        if not all(1 <= cropped <= resized for cropped, resized in zip(self.crop, sides, strict=True)):
            raise ValueError(f"crop {self.crop} must lie between 1 and the resized side, {self.resize}")
        if min(self.std) <= 0:
            raise ValueError(f"std {self.std} must be positive")
        return self


def preprocess(picture: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Resize uint8 pixels (H, W, 3) and crop the centre; returns pixels of their own.

    Equal to torchvision's Resize (antialiased) and CenterCrop on the same picture, within one grey level.
    """
    before = (picture.shape[1], picture.shape[0])
    size, (height, width) = resized_size(before, preprocessing.resize), preprocessing.crop
    left, top = round((size[0] - width) / 2), round((size[1] - height) / 2)
    crop = (left, top, left + width, top + height)
    if size == before:
        return _cut(picture, crop).copy()
    if not is_resized_whole(before, preprocessing):
        return _resize_centre(picture, size, crop, preprocessing.interpolation)
    return np.ascontiguousarray(_cut(_resize_whole(picture, size, preprocessing.interpolation), crop))


def is_resized_whole(size: tuple[int, int], preprocessing: Preprocessing) -> bool:
    """Whether a picture of this width and height is resized before it is cropped."""
    width, height = resized_size(size, preprocessing.resize)
    return width * height <= max(_MOST_RESIZED, _MOST_RESIZED_PER_CROPPED * prod(preprocessing.crop))


def resized_size(size: tuple[int, int], resize: int | tuple[int, int]) -> tuple[int, int]:
    """Width and height that a picture of this width and height is resized to."""
    if isinstance(resize, int):
        width, height = (resize * side // min(size) for side in size)
    else:
        height, width = resize
    return width, height


def _cut(pixels: NDArray[np.uint8], box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    left, top, right, bottom = box
    return pixels[top:bottom, left:right]


def _resize_whole(pixels: NDArray[np.uint8], size: tuple[int, int], interpolation: Interpolation) -> NDArray[np.uint8]:
    if interpolation == "bilinear":
        from oodgate.images.bilinear import resize_bilinear  # brings torch along, which no other transform needs

        return resize_bilinear(pixels, height=size[1], width=size[0])
    return np.array(Image.fromarray(pixels).resize(size, _RESAMPLING[interpolation]))


def _resize_centre(
    picture: NDArray[np.uint8], size: tuple[int, int], crop: tuple[int, int, int, int], interpolation: Interpolation
) -> NDArray[np.uint8]:
    # One by a million pixels would be resized to 32 by 32 million: only what the crop shows is made, from only the
    # part of the picture that it shows. The part starts at a whole pixel near the crop, since Pillow keeps the box
    # in short floating-point numbers.
    height, width, _ = picture.shape
    scale = (width / size[0], height / size[1])
    left, top, right, bottom = (edge * scale[axis % 2] for axis, edge in enumerate(crop))
    beside, above = (ceil(_MARGIN * max(1, one)) for one in scale)
    corner = max(0, floor(left) - beside), max(0, floor(top) - above)
    part = _cut(picture, (*corner, min(width, ceil(right) + beside), min(height, ceil(bottom) + above)))
    box = (left - corner[0], top - corner[1], right - corner[0], bottom - corner[1])
    box = (box[0], box[1], min(box[2], part.shape[1]), min(box[3], part.shape[0]))
    wanted = (crop[2] - crop[0], crop[3] - crop[1])
    return np.array(Image.fromarray(part).resize(wanted, _RESAMPLING[interpolation], box))

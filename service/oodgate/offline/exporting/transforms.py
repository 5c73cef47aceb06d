"""The transform that a network was trained for: from its library, a preset, a file or NAME=VALUE."""

import json
import math
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import nn
from torchvision.models import get_model_weights
from torchvision.transforms._presets import ImageClassification

from oodgate.errors import ExportError
from oodgate.images.preprocess import Preprocessing

Size = tuple[int, int]
"""Height and width, pixels."""

_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
PRESETS: dict[str, Preprocessing] = {
    "imagenet": Preprocessing(resize=256, crop=(224, 224), **_IMAGENET),
    "cifar10": Preprocessing(resize=32, crop=(32, 32), mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010)),
    "cifar100": Preprocessing(resize=32, crop=(32, 32), mean=(0.5071, 0.4865, 0.4409), std=(0.2673, 0.2564, 0.2762)),
    "half": Preprocessing(resize=256, crop=(224, 224), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
}
"""Transforms by the name that --preprocess takes."""

_FORMS = f"a JSON file, a preset ({', '.join(PRESETS)}) or resize=256,crop=224x224,mean=R/G/B,std=R/G/B"


def parse_size(text: str) -> Size:
    """Height and width of "3x224x224"; raises ExportError for anything but three channels."""
    parts = text.split("x")
    if len(parts) != 3 or not all(part.isdigit() and int(part) > 0 for part in parts) or parts[0] != "3":
        raise ExportError(f"--input {text} is not 3xHEIGHTxWIDTH; the network must take RGB images, such as 3x224x224")
    return int(parts[1]), int(parts[2])


def choose_preprocessing(wanted: str | None, default: Preprocessing | None, size: Size | None) -> Preprocessing:
    """What --preprocess and --input say, or the network's own transform; raises ExportError where neither decides.

    A preset and a default are made for one size; for another `size` they keep the ratio of resize to crop.
    """
    if wanted is None and default is None:
        raise ExportError(f"this network brings no preprocessing; say with --preprocess how it was trained: {_FORMS}")
    fields = _stated_fields(wanted) if wanted else {}
    preset = PRESETS.get(wanted.split(",")[0], default) if wanted else default
    start = {} if preset is None else (preset if size is None else _resized(preset, size)).model_dump()
    chosen = _validated({**start, **fields})
    if size is not None and chosen.crop != size:
        raise ExportError(
            f"--input has {size[0]}x{size[1]} pixels and --preprocess crops to {chosen.crop}; make them one"
        )
    return chosen


def torchvision_preprocessing(name: str) -> Preprocessing:
    """The transform of a torchvision network's default weights, exactly."""
    transform = get_model_weights(name).DEFAULT.transforms()
    if not isinstance(transform, ImageClassification):
        raise ExportError(f"torchvision's transform of {name} is no image classification's; give --preprocess {_FORMS}")
    (resize,), (crop,) = transform.resize_size, transform.crop_size
    return _validated(
        {
            "resize": resize,
            "crop": (crop, crop),
            "interpolation": transform.interpolation.value,
            "mean": transform.mean,
            "std": transform.std,
        }
    )


def timm_preprocessing(network: nn.Module) -> Preprocessing:
    """The evaluation transform of a timm network; raises ExportError where a bundle cannot express it."""
    from timm.data import resolve_model_data_config  # type: ignore[attr-defined]

    config = resolve_model_data_config(network)  # type: ignore[no-untyped-call]
    channels, height, width = config["input_size"]
    squashed = config["crop_mode"] == "squash"
    if channels != 3 or not (squashed or (config["crop_mode"] == "center" and height == width)):
        raise ExportError(
            f"timm prepares images of {config['input_size']} by '{config['crop_mode']}', and a bundle squashes RGB "
            f"images or crops a square centre of them; give --preprocess {_FORMS}"
        )
    sides = tuple(math.floor(side / config["crop_pct"]) for side in (height, width))
    return _validated(
        {
            "resize": sides if squashed else sides[0],
            "crop": (height, width),
            "interpolation": config["interpolation"],
            "mean": config["mean"],
            "std": config["std"],
        }
    )


def _stated_fields(text: str) -> dict[str, Any]:
    if Path(text).suffix == ".json":
        return _read_fields(Path(text))
    first, *others = text.split(",")
    entries = others if first in PRESETS else [first, *others]
    return dict(_parse_field(entry) for entry in entries)


def _read_fields(path: Path) -> dict[str, Any]:
    try:
        fields = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ExportError(f"the preprocessing {path} cannot be read: {error}; give {_FORMS}") from error
    if not isinstance(fields, dict):
        raise ExportError(f"the preprocessing {path} holds no JSON object; give {_FORMS}")
    return fields


def _parse_field(entry: str) -> tuple[str, Any]:
    name, separator, value = entry.partition("=")
    if not separator:
        raise ExportError(f"--preprocess does not know '{entry}'; give {_FORMS}")
    if name in ("mean", "std"):
        return name, value.split("/")
    sides = name == "crop" or (name == "resize" and "x" in value)
    return name, value.split("x") if sides else value


def _resized(preset: Preprocessing, size: Size) -> Preprocessing:
    if preset.crop == size:
        return preset
    if isinstance(preset.resize, int):
        resize: int | Size = max(size) * preset.resize // max(preset.crop)
    else:
        height, width = (new * side // old for new, side, old in zip(size, preset.resize, preset.crop, strict=True))
        resize = height, width
    return preset.model_copy(update={"resize": resize, "crop": size})


def _validated(fields: dict[str, Any]) -> Preprocessing:
    try:
        return Preprocessing.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = f"'{first['loc'][0]}': " if first["loc"] else ""
        raise ExportError(f"this preprocessing cannot be expressed, {where}{first['msg']}; give {_FORMS}") from error

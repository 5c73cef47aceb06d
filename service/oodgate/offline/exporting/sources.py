"""What `oodgate export SOURCE` can name, and how each becomes a network.

densenet-bc-100-12              a network of the catalogue (`backbones/catalogue.py`)
resnet50                        a classifier of torchvision
timm:resnet50                   a network of timm
package.module:build_model      your own function; the current directory is importable
network.ts, network.pt2         a TorchScript file or a torch.export program that answers (logits, activation)
"""

import importlib
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn

from oodgate.bundle import Engine
from oodgate.engines import load_network
from oodgate.errors import ExportError, last_line
from oodgate.images.preprocess import Preprocessing
from oodgate.offline.backbones.catalogue import BACKBONES
from oodgate.offline.exporting.transforms import Size, timm_preprocessing, torchvision_preprocessing
from oodgate.programs import load_program

_FILES = (".ts", ".pt", ".pt2")


@dataclass(frozen=True)
class Source:
    """A network as its source builds it, and what the source knows of it."""

    network: nn.Module
    preprocessing: Preprocessing | None = None
    is_random: bool = True  # until weights are loaded
    is_complete: bool = False  # it answers (logits, activation), with its weights
    engines: tuple[Engine, ...] = ("torchscript", "export", "aotinductor")  # the first is the default


def open_source(name: str, classes: int, size: Size | None) -> Source:
    """Build what a name stands for, for a number of classes; raises ExportError where it stands for nothing."""
    torch.manual_seed(0)  # random weights are the same every time
    if Path(name).suffix in _FILES:
        return _open_file(Path(name))
    if name.startswith("timm:"):
        return _open_timm(name.removeprefix("timm:"), classes)
    if ":" in name:
        return _open_function(name, classes)
    if name in BACKBONES:
        return Source(BACKBONES[name].build(classes), BACKBONES[name].preprocessing)
    if name in torchvision.models.list_models(module=torchvision.models):
        return _open_torchvision(name, classes, size)
    raise ExportError(
        f"there is no network '{name}'; give one of {', '.join(BACKBONES)}, a classifier of torchvision such as "
        "resnet50, timm:NAME, your_package.module:function, or a .ts or .pt2 file that answers (logits, activation)"
    )


def _open_torchvision(name: str, classes: int, size: Size | None) -> Source:
    options: dict[str, Any] = {"num_classes": classes}
    if name.startswith("vit_") and size is not None:  # its position embedding is made for one size
        options["image_size"] = size[0]
    network: nn.Module = torchvision.models.get_model(name, weights=None, **options)
    return Source(network, torchvision_preprocessing(name))


def _open_timm(name: str, classes: int) -> Source:
    try:
        import timm
    except ModuleNotFoundError as error:
        raise ExportError("networks of timm need timm; run `pip install 'oodgate[timm]'`") from error
    if not timm.is_model(name):
        raise ExportError(f"timm has no network '{name}'; `timm.list_models('*resnet*')` lists such names")
    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=classes)
    return Source(network, timm_preprocessing(network))


def _open_function(name: str, classes: int) -> Source:
    network, again = _build(name, classes), _build(name, classes)
    pairs = zip_longest(network.parameters(), again.parameters(), fillvalue=torch.empty(0))
    return Source(network, is_random=not all(torch.equal(one, other) for one, other in pairs))


def _build(name: str, classes: int) -> nn.Module:
    sys.path.insert(0, str(Path.cwd()))
    try:
        return _call_builder(_import_builder(name), classes, name)
    finally:
        sys.path.remove(str(Path.cwd()))


def _import_builder(name: str) -> Callable[..., Any]:
    module_name, _, function = name.partition(":")
    try:
        builder = getattr(importlib.import_module(module_name), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ExportError(
            f"'{name}' cannot be imported ({error}); give package.module:function, with the package in the current "
            "directory or installed"
        ) from error
    if not callable(builder):
        raise ExportError(f"'{name}' is no function; give one that answers the network")
    return builder  # type: ignore[no-any-return]


def _call_builder(builder: Callable[..., Any], classes: int, name: str) -> nn.Module:
    takes_classes = "num_classes" in inspect.signature(builder).parameters
    try:
        network = builder(num_classes=classes) if takes_classes else builder()
    except Exception as error:
        raise ExportError(
            f"'{name}' fails ({type(error).__name__}: {last_line(error)}); expected a function that needs no argument "
            "but num_classes"
        ) from error
    if not isinstance(network, nn.Module):
        raise ExportError(f"'{name}' answers {type(network).__name__}; expected a torch.nn.Module")
    return network


def _open_file(path: Path) -> Source:
    try:
        data = path.read_bytes()
        if path.suffix == ".pt2":
            network: nn.Module = load_program(data).module(check_guards=False)
            return Source(network, is_random=False, is_complete=True, engines=("export", "aotinductor"))
        network = load_network(data, torch.device("cpu"))
    except (OSError, RuntimeError, ValueError) as error:
        raise ExportError(
            f"{path} is no TorchScript file and no torch.export program that oodgate reads ({last_line(error)}); "
            "weights alone go to --weights, beside the name of their network"
        ) from error
    return Source(network, is_random=False, is_complete=True, engines=("torchscript",))

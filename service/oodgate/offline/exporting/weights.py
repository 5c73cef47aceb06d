"""A file of weights -> the network: safetensors, or what `torch.save` wrote of tensors alone. Nothing is unpickled."""

import warnings
import zipfile
from pathlib import Path
from pickle import UnpicklingError  # nothing is unpickled
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from oodgate.errors import ExportError

_WRAPPERS = ("state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.")  # what DataParallel and torch.compile put before every name


def load_weights(network: nn.Module, path: Path) -> None:
    """Put the weights of a file into a network; raises ExportError where names or shapes do not fit."""
    weights = _without_counters(read_weights(path))
    expected = _without_counters(network.state_dict())
    if differing := set(weights) ^ set(expected):
        raise ExportError(
            f"the weights {path} do not fit this network: {len(differing)} names differ, such as {min(differing)}"
        )
    for name, tensor in weights.items():
        if tensor.shape != expected[name].shape:
            raise ExportError(
                f"the weights {path} do not fit this network: {name} has shape {tuple(tensor.shape)}, "
                f"the network's has {tuple(expected[name].shape)}; is the number of classes right?"
            )
    network.load_state_dict(weights, strict=False)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors by name; raises ExportError where the file holds anything else."""
    try:
        content = load_file(path) if path.suffix == ".safetensors" else _load_checkpoint(path)
    except Exception as error:  # a damaged file makes its reader raise whatever it will
        raise ExportError(
            f"the weights {path} cannot be read as tensors ({_reason(error)}); save them with "
            "safetensors.torch.save_file(network.state_dict(), ...)"
        ) from error
    tensors = _without_prefix(_unwrapped(content))
    if not tensors or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise ExportError(f"the weights {path} are no state dict, tensors by name; save network.state_dict() alone")
    return tensors


def _load_checkpoint(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Detected pickle protocol"
        )  # the file is read or refused all the same
        # Memory mapping needs the zip format of torch 1.6; an older file is read whole.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))


def _unwrapped(content: Any) -> dict[str, Any]:
    for key in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    return content if isinstance(content, dict) else {}


def _without_prefix(state: dict[str, Any]) -> dict[str, Any]:
    for prefix in _PREFIXES:
        if state and all(isinstance(name, str) and name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _without_counters(state: dict[str, Tensor]) -> dict[str, Tensor]:
    # Batch norm counts its training steps; published checkpoints often leave that out and inference never reads it.
    return {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}


def _reason(error: Exception) -> str:
    if isinstance(error, UnpicklingError):  # torch says at length how to load what one trusts
        return "it holds more than tensors, or is damaged"
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]

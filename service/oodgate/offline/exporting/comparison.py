"""Which engine runs a network fastest here: every one of them on the same images, in turn."""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch
from torch import Tensor, nn

from oodgate.bundle import Engine
from oodgate.engines import ENGINES, Network
from oodgate.offline.exporting.probes import probe_images, relative_difference

_BATCH, _ROUNDS, _WARM_UP = 8, 7, 2


@dataclass(frozen=True)
class EngineSpeed:
    """One engine on one network: images a second at batch 8 (median), its file's size, its relative difference."""

    images_per_second: float
    megabytes: float
    difference: float


def compare_engines(network: nn.Module, size: tuple[int, int], engines: Sequence[Engine]) -> dict[Engine, EngineSpeed]:
    """Build, load and time a network (logits, activation) with each engine on the CPU; one that cannot is left out."""
    images = probe_images(_BATCH, size)
    built = {name: found for name in engines if (found := _build(name, network, images)) is not None}
    seconds: dict[Engine, list[float]] = {name: [] for name in built}
    for turn in range(_WARM_UP + _ROUNDS):
        for name, (runnable, _) in built.items():
            took = _time(runnable, images)
            seconds[name] += [took] if turn >= _WARM_UP else []
    return {
        name: EngineSpeed(
            images_per_second=round(_BATCH / float(np.median(seconds[name])), 1),
            megabytes=round(file_size / 1e6, 1),
            difference=_difference(network, runnable, images),
        )
        for name, (runnable, file_size) in built.items()
    }


def _build(name: Engine, network: nn.Module, images: Tensor) -> tuple[Network, int] | None:
    runner = ENGINES[name]
    try:
        data = runner.save(network, images[:2])
        return runner.load(data, torch.device("cpu"), torch.float32), len(data)
    except Exception:  # a compiler fails in its own ways; a comparison shows what works here
        return None


def _time(network: Network, images: Tensor) -> float:
    images = images.contiguous(memory_format=torch.channels_last)
    start = perf_counter()
    with torch.inference_mode():
        network(images)
    return perf_counter() - start


def _difference(network: nn.Module, runnable: Network, images: Tensor) -> float:
    with torch.inference_mode():
        pairs = zip(network(images), runnable(images), strict=True)
        return max(relative_difference(expected, found) for expected, found in pairs)

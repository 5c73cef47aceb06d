"""Experiments on a network that show what depends on a map: change it where it is made, and see what the logits do."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from oodgate.offline.exporting.calls import pick_logits
from oodgate.offline.exporting.tap import Place, Tap, read_off

_SAME = 1e-3


def read_raw(network: nn.Module, place: Place, images: Tensor) -> Tensor:
    """The map (N, C, h, w) at a place, as the network computes it."""
    with torch.no_grad(), Tap(place) as tap:
        network(images)
    return read_off(tap)


def decides_alone(network: nn.Module, place: Place, images: Tensor, logits: Tensor) -> bool:
    """Whether images that are given each other's maps get each other's logits."""
    return _answers(network, place, lambda tensor: tensor.flip(0), images, logits.flip(0))


def ignores_places(network: nn.Module, place: Place, images: Tensor, logits: Tensor) -> bool:
    """Whether the logits stay as they are when the map's places are shuffled, as they do before global pooling."""
    return _answers(network, place, lambda tensor: _shuffled(tensor, place.places), images, logits)


def _answers(
    network: nn.Module, place: Place, change: Callable[[Tensor], Tensor], images: Tensor, expected: Tensor
) -> bool:
    with torch.no_grad(), Tap(place, change):
        answer = network(images)
    found = pick_logits(answer, expected.shape[1])
    spread = (expected - expected.mean(0)).abs().max()  # what the bias alone explains is no evidence
    return bool((found - expected).abs().max() <= _SAME * spread.clamp(min=1e-6))


def _shuffled(tensor: Tensor, dims: tuple[int, ...]) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    for dim in dims:
        tensor = tensor.index_select(dim, torch.randperm(tensor.shape[dim], generator=generator).roll(1))
    return tensor

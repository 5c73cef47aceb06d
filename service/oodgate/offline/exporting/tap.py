"""A network that answers its logits alone -> one that answers (logits, activation), read where a call is made."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from oodgate.offline.exporting.calls import Call, Listener, pick_logits

Read = Callable[[Call], Tensor]
"""Takes the activation (N, C, h, w) from a call."""


@dataclass(frozen=True)
class Place:
    """A call of a network, found again in every forward, and what is read there."""

    name: str
    rank: int
    occurrence: int
    read: Read
    places: tuple[int, ...] = ()  # the dimensions of the call's answer that hold a map's places

    def matches(self, call: Call) -> bool:
        """Whether this is the call."""
        return (call.name, call.rank, call.occurrence) == (self.name, self.rank, self.occurrence)


class Tap(Listener):
    """Reads at a place while a network answers; `change` puts another tensor there, to see what depends on it."""

    def __init__(self, place: Place, change: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.found: Tensor | None = None
        self._place = place
        self._change = change

    def hear(self, call: Call) -> None:
        """Read where the place is."""
        if not self._place.matches(call):
            return
        if self._change is not None:
            call.result.copy_(self._change(call.result.clone()))  # in place, for a caller that ignores the answer
        self.found = self._place.read(call)


class Tapped(nn.Module):
    """Images (N, 3, H, W) -> logits (N, K) and the activation (N, C, h, w), which is never negative."""

    def __init__(self, network: nn.Module, place: Place, classes: int) -> None:
        super().__init__()
        self.network = network
        self._place = place
        self._classes = classes

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        with Tap(self._place) as tap:
            answer = self.network(images)
        return pick_logits(answer, self._classes), torch.relu(read_off(tap))


class Adopted(nn.Module):
    """A network that answers (logits, activation) by itself; the activation is cut to be never negative."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        logits, activation = self.network(images)
        return logits, torch.relu(activation)


def read_off(tap: Tap) -> Tensor:
    """What a tap has read; the network made the call while it was recorded, so it makes it always."""
    if tap.found is None:
        raise RuntimeError("the network calls other functions than it did when the activation was found")
    return tap.found

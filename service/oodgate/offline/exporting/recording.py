"""What a network calls while it answers: every torch function by name, and which call's answer each one reads.

This is how any network is followed, whether its layers are modules or functions called in `forward`.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from oodgate.errors import ExportError
from oodgate.offline.exporting.calls import Call, Listener, pick_logits, tensors_of
from oodgate.offline.exporting.probes import answer_of


class Recorder(Listener):
    """Keeps the calls that depend on the images; the images themselves are call 0."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.calls = [Call("images", 4, 1, (), {}, images)]
        self.layer = ""
        # Tensors are told apart by identity; the calls keep every one alive, so that none is used twice.
        self._makers = {id(images): 0}

    def hear(self, call: Call) -> None:
        """Keep the call with what it reads; an operation in place becomes the maker of the tensor it changed."""
        read = (self._makers.get(id(tensor)) for tensor in tensors_of((call.args, call.kwargs)))
        inputs = tuple(sorted({maker for maker in read if maker is not None}))
        if not inputs:
            return
        index = len(self.calls)
        kept = (call.name, call.rank, call.occurrence, call.args, call.kwargs, call.result)
        self.calls.append(Call(*kept, index=index, inputs=inputs, layer=self.layer))
        self._makers |= {id(tensor): index for tensor in tensors_of(call.result)}

    def maker_of(self, value: Any) -> int | None:
        """Index of the call that made the first tensor of a value."""
        return next((self._makers.get(id(tensor)) for tensor in tensors_of(value)), None)


@dataclass(frozen=True)
class Recording:
    """The calls of one forward that lead from the images to the logits."""

    calls: tuple[Call, ...]
    last: int  # the call that made the logits
    answer: Any
    layers: Mapping[str, int | None]  # path of a module -> the call that made its output

    def ancestors(self, index: int) -> set[int]:
        """The calls that one depends on, itself included."""
        found = {index}
        for call in reversed(self.calls[: index + 1]):
            if call.index in found:
                found.update(call.inputs)
        return found

    def after(self, first: Call, last: Call | None = None) -> list[Call]:
        """The calls that depend on `first` and lead to `last`, which is among them, or else to the logits."""
        end = self.last if last is None else last.index
        reached = {first.index}
        for call in self.calls[first.index + 1 :]:
            if reached.intersection(call.inputs):
                reached.add(call.index)
        return [self.calls[index] for index in sorted((reached & self.ancestors(end)) - {first.index})]

    def bottlenecks(self) -> list[Call]:
        """The calls that every path from the images to the logits passes, nearest to the logits first."""
        nearest = [0]  # of each call, the last call that every path to it passes
        for call in self.calls[1:]:
            common = call.inputs[0]
            for other in call.inputs[1:]:
                common = _meet(nearest, common, other)
            nearest.append(common)
        chain = [self.last]
        while chain[-1]:
            chain.append(nearest[chain[-1]])
        return [self.calls[index] for index in chain]


def record(network: nn.Module, images: Tensor, classes: int) -> Recording:
    """Run a network on images (N, 3, H, W) and keep what it calls.

    Raises ExportError where it fails, or the logits do not show.
    """
    recorder = Recorder(images)
    layers: dict[str, int | None] = {}
    with _layers_known(network, recorder, layers), recorder:
        answer = answer_of(network, images)
    last = recorder.maker_of(pick_logits(answer, classes))
    if last is None:
        raise ExportError(
            "the logits cannot be followed back to the images: the network calls compiled code; bring it as a "
            "TorchScript or torch.export file that answers (logits, activation)"
        )
    return Recording(tuple(recorder.calls), last, answer, layers)


def _meet(nearest: list[int], one: int, other: int) -> int:
    while one != other:
        if one > other:
            one = nearest[one]
        else:
            other = nearest[other]
    return one


@contextmanager
def _layers_known(network: nn.Module, recorder: Recorder, layers: dict[str, int | None]) -> Iterator[None]:
    path: list[str] = [""]

    def enter(name: str, module: nn.Module, args: Any) -> None:
        path.append(name)
        recorder.layer = name

    def leave(name: str, module: nn.Module, args: Any, output: Any) -> None:
        path.pop()
        recorder.layer = path[-1]
        layers[name] = recorder.maker_of(output)

    hooks: list[Any] = []
    for name, module in _hookable(network):
        hooks += [module.register_forward_pre_hook(partial(enter, name))]
        hooks += [module.register_forward_hook(partial(leave, name))]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _hookable(network: nn.Module) -> Iterable[tuple[str, nn.Module]]:
    return (pair for pair in network.named_modules() if pair[0] and not isinstance(pair[1], torch.jit.ScriptModule))

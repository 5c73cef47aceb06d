"""One call of a torch function, a listener that hears them all, and the tensors in what they take and answer."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from oodgate.errors import ExportError


@dataclass(frozen=True)
class Call:
    """One call; `occurrence` counts those of its name whose answer has as many dimensions."""

    name: str
    rank: int
    occurrence: int
    args: tuple[Any, ...] = field(repr=False)
    kwargs: Mapping[str, Any] = field(repr=False)
    result: Any = field(repr=False)
    index: int = 0  # in the recording; a call reads earlier ones
    inputs: tuple[int, ...] = ()
    layer: str = ""  # path of the module in whose forward it was called

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the first tensor of the answer."""
        return tuple(tensors_of(self.result)[0].shape)

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """An argument that may be given by position or by name."""
        return self.args[position] if len(self.args) > position else self.kwargs.get(name, default)


class Listener(TorchFunctionMode):
    """Hears every call that answers tensors, under eager execution, torch.jit.trace and torch.export alike."""

    def __init__(self) -> None:
        super().__init__()
        self._counts: Counter[tuple[str, int]] = Counter()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Make the call and let `hear` know."""
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        answered = args[0] if name == "__setitem__" else result  # an assignment answers nothing and changes its first
        if tensors := tensors_of(answered):
            kind = (name, tensors[0].ndim)
            self._counts[kind] += 1
            self.hear(Call(*kind, self._counts[kind], args, kwargs or {}, answered))
        return result

    def hear(self, call: Call) -> None:
        """Take note of a call that was made."""
        raise NotImplementedError


def pick_logits(answer: Any, classes: int) -> Tensor:
    """The first tensor (N, classes) of an answer, which may nest tensors in tuples, lists and dicts."""
    tensors = tensors_of(answer)
    for tensor in tensors:
        if tensor.ndim == 2 and tensor.shape[1] == classes:
            return tensor
    shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors) or "no tensor"
    raise ExportError(f"the network answers {shapes} and there are {classes} classes; expected logits (N, {classes})")


def tensors_of(value: Any) -> list[Tensor]:
    """Every tensor of nested tuples, lists and dicts, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, tuple | list):
        return []
    return [tensor for entry in value for tensor in tensors_of(entry)]

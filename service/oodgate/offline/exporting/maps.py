"""The map that a network pools for its classifier: the last spatial map that every path to the logits passes.

Where that map only prepares the pooling (a power for GeM, weights by attention, VGG's average), it is the one before.
"""

from collections.abc import Callable
from typing import Literal

from torch import Tensor

from oodgate.offline.exporting.calls import Call
from oodgate.offline.exporting.recording import Recording

Layout = Literal["NCHW", "NHWC", "NLC"]

TO_NCHW: dict[Layout, Callable[[Tensor], Tensor]] = {
    "NCHW": lambda tensor: tensor,
    "NHWC": lambda tensor: tensor.permute(0, 3, 1, 2),
    "NLC": lambda tensor: tensor.transpose(1, 2).unsqueeze(2),  # places in one row
}
"""A map (N, C, h, w) of a tensor in each layout."""

PLACES: dict[Layout, tuple[int, ...]] = {"NCHW": (2, 3), "NHWC": (1, 2), "NLC": (1,)}
"""The dimensions that hold a map's places."""

ATTENTION = ("scaled_dot_product_attention", "multi_head_attention_forward", "softmax")
CONVOLUTIONS = ("conv2d",)
WEIGHTED = (*CONVOLUTIONS, "linear", "matmul", "__matmul__", "bmm", "einsum", "addmm", "multi_head_attention_forward")
"""Calls with weights, by which a layer is known."""

_MOST_LAYERS_AFTER = 8  # VGG's classifier has 3, learned attention pooling with its projections up to 6

_AVERAGES = ("adaptive_avg_pool2d", "avg_pool2d")
_REDUCTIONS = ("mean", "sum", "amax", "max", "logsumexp", "norm")
_PRODUCTS = ("mul", "__mul__", "__rmul__", "mul_")


def find_map(recording: Recording, classes: int) -> Call | None:
    """The call that answers the map, or None where no convolution's map is pooled on the way to the logits."""
    chain = [call for call in recording.bottlenecks()[:-1] if layout_of(recording, call) is not None]
    while chain and _is_made_of_earlier_map(recording, chain, classes):
        chain = chain[1:]
    if not chain or not _is_pooled(recording, chain[0], classes):
        return None
    return chain[0]


def layout_of(recording: Recording, call: Call) -> Layout | None:
    """How a call's answer holds a map of several channels and places; None where it holds none."""
    shape = call.shape
    if not isinstance(call.result, Tensor) or not call.result.is_floating_point() or call.name in ATTENTION:
        return None
    reduced = {_dims(reader) for reader in recording.calls[call.index + 1 :] if call.index in reader.inputs}
    if len(shape) == 3 and (1,) in reduced:
        return "NLC"
    if len(shape) == 4 and (1, 2) in reduced:
        return "NHWC"
    return "NCHW" if len(shape) == 4 and shape[1] > 1 and shape[2] * shape[3] > 1 else None


def _is_pooled(recording: Recording, call: Call, classes: int) -> bool:
    """Whether a map is what the classifier pools or flattens, and not one that further layers look at."""
    before = [recording.calls[index] for index in recording.ancestors(call.index)]
    after = recording.after(call)
    readers = [reader for reader in after if call.index in reader.inputs]
    looking = [reader.name in CONVOLUTIONS and not _maps_classes(recording, reader, classes) for reader in readers]
    return (
        any(earlier.name in WEIGHTED for earlier in before)
        and not all(looking)
        and sum(later.name in WEIGHTED for later in after) <= _MOST_LAYERS_AFTER
        and count_attention(recording, call) <= 1
    )


def count_attention(recording: Recording, call: Call) -> int:
    """Number of attention layers between a map and the logits."""
    return sum(later.name in ATTENTION for later in recording.after(call))


def _is_made_of_earlier_map(recording: Recording, chain: list[Call], classes: int) -> bool:
    """Whether the first map of the chain only prepares the pooling of the second."""
    if len(chain) < 2:
        return False
    call, earlier = chain[:2]
    if call.name in (*_AVERAGES, "pow"):  # GeM pools powers; VGG averages to 7 x 7
        return True
    if _maps_classes(recording, call, classes):
        return True
    weighing = any(step.name == "softmax" for step in recording.after(earlier, call))
    return call.name in _PRODUCTS and weighing  # the weights of attention


def _maps_classes(recording: Recording, call: Call, classes: int) -> bool:
    """Whether a map has one channel for each class and is pooled into the logits: what made it is the classifier."""
    return call.shape[1] == classes and not any(later.name in WEIGHTED for later in recording.after(call))


def _dims(call: Call) -> tuple[int, ...] | None:
    """The dimensions that a reduction takes away."""
    if call.name not in _REDUCTIONS or not isinstance(call.args[0], Tensor):
        return None
    dims = call.argument(1, "dim", call.kwargs.get("axis", ()))
    dims = dims if isinstance(dims, tuple | list) else (dims,)
    return tuple(sorted(dim % call.args[0].ndim for dim in dims if isinstance(dim, int)))

"""A trained classifier -> the network of a bundle, which answers (logits, activation), and what is to be said of it."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from oodgate.errors import ExportError
from oodgate.offline.exporting.attention import class_row, find_class_attention
from oodgate.offline.exporting.calls import Call, pick_logits, tensors_of
from oodgate.offline.exporting.maps import PLACES, TO_NCHW, count_attention, find_map, layout_of
from oodgate.offline.exporting.probes import answer_of, probe_images
from oodgate.offline.exporting.recording import Recording, record
from oodgate.offline.exporting.tap import Adopted, Place, Tapped
from oodgate.offline.exporting.trials import decides_alone, ignores_places, read_raw

_PROBES = 6
_TOLERANCE = 1e-4

_ATTENTION = (
    "the activation is the class token's attention in the last block, averaged over heads before its maximum is taken; "
    "scores that read pooled features do not apply"
)


@dataclass(frozen=True)
class Exposed:
    """A network that answers (logits, activation), where the activation was found, and what to warn of."""

    network: nn.Module
    kind: Literal["map", "attention"]
    reason: str
    notices: tuple[str, ...]


def expose(network: nn.Module, classes: int, size: tuple[int, int], layer: str | None = None) -> Exposed:
    """Find the activation of a network in evaluation mode, or take the output of `layer`, a module's path.

    Raises ExportError where there is none that NAP could read, or where the logits do not depend on it alone.
    """
    images = probe_images(_PROBES, size)
    recording = record(network, images, classes)
    logits = pick_logits(recording.answer, classes)
    _check_logits(logits)
    if layer is not None:
        exposed = _expose_layer(network, recording, layer, images, logits)
    elif (call := find_map(recording, classes)) is not None:
        exposed = _expose_map(network, recording, call, images, logits)
    elif (call := find_class_attention(recording)) is not None:
        reason = f"the class token's row of {_where(call)}"
        exposed = Exposed(Tapped(network, _row_place(call), classes), "attention", reason, (_ATTENTION,))
    else:
        raise ExportError(_nothing_found(recording))
    heads = _heads(recording.answer, classes)
    return Exposed(exposed.network, exposed.kind, exposed.reason + heads, exposed.notices)


def adopt(network: nn.Module, classes: int, size: tuple[int, int]) -> Exposed:
    """A network that answers (logits, activation) by itself, checked; raises ExportError where it does not."""
    answer = answer_of(network, probe_images(_PROBES, size))
    tensors = tensors_of(answer)
    if len(tensors) != 2 or tensors[0].ndim != 2 or tensors[1].ndim != 4:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors) or "no tensor"
        raise ExportError(
            f"the file's network answers {shapes}; expected two tensors, logits (N, {classes}) and the activation "
            "(N, C, h, w) before global pooling"
        )
    _check_logits(pick_logits(answer, classes))
    notices = () if float(tensors[1].min()) >= 0 else (_negative("the network's own output"),)
    return Exposed(Adopted(network), "map", "the second output of the network", notices)


def _expose_map(network: nn.Module, recording: Recording, call: Call, images: Tensor, logits: Tensor) -> Exposed:
    place = _map_place(recording, call)
    if not decides_alone(network, place, images, logits):
        raise ExportError(
            f"the logits do not follow from {_where(call)} alone, where the activation seemed to be; "
            "name the layer whose output is pooled with --activation"
        )
    notices = _warnings_of(network, recording, call, place, images)
    if count_attention(recording, call):
        notices += ("the map is pooled by learned attention; the activation is the map before it",)
        pooled = "pooled by attention"
    elif ignores_places(network, place, images, logits):
        pooled = "pooled, since the logits do not change when its places are shuffled"
    else:
        notices += ("the classifier reads the map place by place and does not pool it globally",)
        pooled = "flattened for the classifier"
    reason = f"the answer of {_where(call)}: the last map on every path to the logits, {pooled}"
    return Exposed(Tapped(network, place, logits.shape[1]), "map", reason, notices)


def _expose_layer(network: nn.Module, recording: Recording, layer: str, images: Tensor, logits: Tensor) -> Exposed:
    call = _output_of(recording, layer)
    place = _map_place(recording, call)
    notices = _warnings_of(network, recording, call, place, images)
    if not decides_alone(network, place, images, logits):
        notices += (f"the logits do not follow from the layer named, '{layer}', alone",)
    return Exposed(Tapped(network, place, logits.shape[1]), "map", f"the output of the layer named, '{layer}'", notices)


def _output_of(recording: Recording, layer: str) -> Call:
    if layer not in recording.layers:
        raise ExportError(
            f"the network runs no layer '{layer}'; its layers are such as {', '.join([*recording.layers][-8:])}"
        )
    index = recording.layers[layer]
    call = None if index is None else recording.calls[index]
    if call is None or layout_of(recording, call) is None:
        raise ExportError(f"layer '{layer}' answers no map (N, C, h, w) of several channels and places; name another")
    return call


def _row_place(attention: Call) -> Place:
    return Place(attention.name, attention.rank, attention.occurrence, class_row)


def _map_place(recording: Recording, call: Call) -> Place:
    layout = layout_of(recording, call) or "NCHW"
    to_nchw = TO_NCHW[layout]
    return Place(call.name, call.rank, call.occurrence, lambda heard: to_nchw(heard.result), PLACES[layout])


def _warnings_of(network: nn.Module, recording: Recording, call: Call, place: Place, images: Tensor) -> tuple[str, ...]:
    """What to say of a map's values."""
    notices: tuple[str, ...] = ()
    if float(read_raw(network, place, images).min()) < 0:
        notices += (_negative(_where(call)),)
    if (cap := _cap(call)) is not None:
        notices += (f"the activation's maximum is capped at {cap:g} by {call.name}, which blunts NAP",)
    return notices


def _negative(where: str) -> str:
    return (
        f"the map before pooling has negative values (from {where}, such as SiLU, GELU and layer norm leave); they are "
        "cut to 0 for NAP, which was made for ReLU networks"
    )


def _cap(call: Call) -> float | None:
    if call.name == "relu6":
        return 6.0
    limit = call.argument(2, "max_val" if call.name == "hardtanh" else "max")
    return float(limit) if call.name in ("hardtanh", "clamp") and isinstance(limit, int | float) else None


def _check_logits(logits: Tensor) -> None:
    if not bool(torch.isfinite(logits).all()):
        raise ExportError("the network's logits are not finite on images of noise; are these the right weights?")
    are_probabilities = float(logits.min()) >= 0 and float((logits.sum(1) - 1).abs().max()) < _TOLERANCE
    are_logarithms = float(logits.logsumexp(1).abs().max()) < _TOLERANCE
    if are_probabilities or are_logarithms:
        raise ExportError(
            "the network answers probabilities or their logarithms, and energy needs the logits; leave its softmax out"
        )


def _heads(answer: Any, classes: int) -> str:
    tensors = tensors_of(answer)
    if len(tensors) == 1:
        return ""
    return f"; of the {len(tensors)} tensors that the network answers, the first (N, {classes}) is taken for the logits"


def _where(call: Call) -> str:
    return f"{call.name} in {call.layer or 'the network itself'}"


def _nothing_found(recording: Recording) -> str:
    largest = [call for call in recording.bottlenecks()[:-1] if layout_of(recording, call) is not None]
    if not largest:
        return (
            "no spatial map (N, C, h, w) lies on the way to the logits, and NAP reads the map before global pooling: "
            "it does not apply to this network"
        )
    return (
        f"no map is pooled for the classifier: after {_where(largest[0])}, {largest[0].shape[1:]}, further layers "
        "follow. Give a larger --input where later maps shrink to one place, or name a layer with --activation"
    )

"""A network that answers (logits, activation) -> its file for an engine, held against it, and its last layer."""

import torch
from torch import Tensor
from torch.nn import functional as F

from oodgate.bundle import Engine, Outputs
from oodgate.engines import ENGINES, Network
from oodgate.errors import ExportError, last_line
from oodgate.offline.exporting.exposure import Exposed
from oodgate.offline.exporting.probes import check_parity, extreme_images, probe_images
from oodgate.scores.methods import BIAS, WEIGHT

_LINEAR = 1e-3
_BATCHES = (1, 2, 5)


def build_model(exposed: Exposed, engine: Engine, size: tuple[int, int]) -> tuple[bytes, Outputs]:
    """The file of a network for an engine, and the shapes of its answers; raises ExportError without parity."""
    runner = ENGINES[engine]
    try:
        model = runner.save(exposed.network, probe_images(2, size))
        found = runner.load(model, torch.device("cpu"), torch.float32)
    except Exception as error:  # foreign networks and compilers fail in their own ways
        raise ExportError(
            f"the network cannot be written as {runner.content}: {last_line(error)}; try another --engine"
        ) from error
    for images in (*(probe_images(count, size, seed=count) for count in _BATCHES), *extreme_images(size)):
        with torch.no_grad():
            logits, activation = exposed.network(images)
            check_parity((logits, activation), _run(found, images))
    return model, Outputs(logits=(logits.shape[1],), activation=tuple(activation.shape[1:]), kind=exposed.kind)


def classifier_of(exposed: Exposed, size: tuple[int, int]) -> dict[str, Tensor]:
    """The weights (K, C) and bias (K,) that turn the pooled activation into the logits; empty where none do."""
    with torch.no_grad():
        logits, activation = exposed.network(probe_images(6, size))
    features, shape = activation.mean((2, 3)), (logits.shape[1], activation.shape[1])
    state = {} if exposed.kind == "attention" else exposed.network.state_dict()
    for name, weight in state.items():
        if weight.ndim < 2 or weight.flatten(1).shape != shape:
            continue
        weight = weight.flatten(1).float()  # a convolution of 1 x 1 is linear too
        bias = state.get(name.removesuffix("weight") + "bias", torch.zeros(shape[0])).float()
        magnitude = (logits - bias).abs().max()
        if bool((F.linear(features, weight, bias) - logits).abs().max() <= _LINEAR * magnitude):
            return {WEIGHT: weight.clone(), BIAS: bias.clone()}
    return {}


def _run(network: Network, images: Tensor) -> tuple[Tensor, Tensor]:
    try:
        return network(images)
    except RuntimeError as error:
        raise ExportError(
            f"the exported network fails on a batch of {len(images)} ({last_line(error)}): it keeps the number of "
            "images that it was exported with, as len(images) in its forward would; try another --engine"
        ) from error

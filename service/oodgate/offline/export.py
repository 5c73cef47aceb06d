"""Weights -> bundle: build the network, trace it to TorchScript, hold it against the original."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from oodgate import __version__
from oodgate.bundle import FORMAT_VERSION, Bundle, Manifest, Outputs, write_bundle
from oodgate.errors import ExportError
from oodgate.model import load_network, save_network
from oodgate.offline.backbones.catalogue import BACKBONES, Backbone
from oodgate.scores.methods import BIAS, WEIGHT

PARITY = 1e-4
"""Largest difference between the traced and the original network's answers."""


@dataclass(frozen=True)
class BundleName:
    """What a bundle is called, and what is known about where its network came from."""

    name: str
    version: str = "1"
    provenance: Path | None = None  # a JSON object


def export_bundle(backbone_name: str, weights: Path, classes_file: Path, out: Path, called: BundleName) -> Bundle:
    """Write an uncalibrated bundle of a network of the catalogue.

    Raises ExportError where the name, the weights or the classes do not fit together, or where the traced network
    answers otherwise than the original.
    """
    if backbone_name not in BACKBONES:
        raise ExportError(f"there is no backbone '{backbone_name}'; choose from {', '.join(BACKBONES)}")
    backbone = BACKBONES[backbone_name]
    classes = read_classes(classes_file)
    network = build_network(backbone, weights, len(classes))
    model, outputs = trace(network, backbone.preprocessing.crop)
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        name=called.name,
        version=called.version,
        classes=classes,
        preprocessing=backbone.preprocessing,
        outputs=outputs,
        provenance={
            "backbone": backbone_name,
            "oodgate": __version__,
            "torch": str(torch.__version__),
            **({} if called.provenance is None else {"training": read_record(called.provenance)}),
        },
    )
    classifier, layer = network.state_dict(), backbone.classifier
    state = {WEIGHT: classifier[f"{layer}.weight"], BIAS: classifier[f"{layer}.bias"]}
    return write_bundle(out, Bundle(manifest, model, state), report={})


def read_record(path: Path) -> dict[str, Any]:
    """The JSON object of a file."""
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ExportError(f"the provenance {path} cannot be read: {error}; give a file with one JSON object") from error
    if not isinstance(record, dict):
        raise ExportError(f"the provenance {path} holds no JSON object; give a file with one")
    return record


def read_classes(path: Path) -> tuple[str, ...]:
    """Class names in the order of the logits: a JSON list, or one name a line."""
    try:
        text = path.read_text(encoding="utf-8")
        names = json.loads(text) if path.suffix == ".json" else text.split("\n")
    except (OSError, ValueError) as error:
        raise ExportError(f"the classes cannot be read from {path}: {error}; give a JSON list of names") from error
    if not isinstance(names, list) or not all(isinstance(entry, str) for entry in names):
        raise ExportError(f"{path} holds no list of class names; give a JSON list of strings, or one name a line")
    classes = tuple(entry.strip() for entry in names if entry.strip())
    if len(set(classes)) != len(classes) or len(classes) < 2:
        raise ExportError(f"{path} has {len(classes)} classes, {len(set(classes))} of them distinct; need two or more")
    return classes


def build_network(backbone: Backbone, weights: Path, num_classes: int) -> nn.Module:
    """The network in evaluation mode with the weights of a safetensors file."""
    network = backbone.build(num_classes)
    try:
        network.load_state_dict(_without_counters(load_file(weights)), strict=False)
        missing = set(_without_counters(network.state_dict())) ^ set(_without_counters(load_file(weights)))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ExportError(
            f"the weights {weights} do not fit this backbone with {num_classes} classes: {error}"
        ) from error
    if missing:
        raise ExportError(
            f"the weights {weights} do not fit this backbone: {len(missing)} names differ, such as {min(missing)}"
        )
    return network.eval()


def trace(network: nn.Module, size: tuple[int, int]) -> tuple[bytes, Outputs]:
    """TorchScript bytes of a network, and the shapes of its answers; raises ExportError without parity."""
    generator = torch.Generator().manual_seed(0)
    example, other = (torch.randn(count, 3, *size, generator=generator) for count in (2, 5))
    model = save_network(network, example)
    with torch.no_grad():
        (logits, activation), answers = network(other), load_network(model, torch.device("cpu"))(other)
    check_parity((logits, activation), answers)
    if float(activation.min()) < 0:
        raise ExportError("the activation has negative values; NAP needs the map after the last ReLU, before pooling")
    return model, Outputs(logits=(logits.shape[1],), activation=tuple(activation.shape[1:]))


def check_parity(expected: tuple[Tensor, Tensor], found: tuple[Tensor, Tensor]) -> None:
    """Raise ExportError where traced answers differ from the original's by more than PARITY."""
    for name, want, have in zip(("logits", "activation"), expected, found, strict=True):
        difference = float((want - have).abs().max())
        if not difference <= PARITY:
            raise ExportError(
                f"the traced network's {name} differ by {difference:.2g} from the original's, at most {PARITY}"
            )


def _without_counters(state: dict[str, Tensor]) -> dict[str, Tensor]:
    # Batch norm counts its training steps; published checkpoints often leave that out and inference never reads it.
    return {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from oodgate.bundle import load_bundle
from oodgate.errors import BundleError, ExportError
from oodgate.model import Model
from oodgate.offline.backbones.catalogue import BACKBONES
from oodgate.offline.export import BundleName, build_network, check_parity, export_bundle, read_classes

CLASSES = ["ant", "bee", "cat"]


def export_random(folder: Path, backbone: str, **changes: object) -> Path:
    """Export a backbone with seeded random weights; returns the bundle's folder."""
    torch.manual_seed(0)
    state = BACKBONES[backbone].build(len(CLASSES)).state_dict() | changes
    save_file({name: tensor for name, tensor in state.items() if tensor is not None}, folder / "weights.safetensors")
    (folder / "classes.json").write_text(json.dumps(CLASSES))
    weights, classes = folder / "weights.safetensors", folder / "classes.json"
    export_bundle(backbone, weights, classes, folder / "bundle", BundleName("random"))
    return folder / "bundle"


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_bundle_answers_as_the_network_that_was_exported(tmp_path: Path, backbone: str) -> None:
    bundle = load_bundle(export_random(tmp_path, backbone))
    network = build_network(BACKBONES[backbone], tmp_path / "weights.safetensors", len(CLASSES))
    pixels = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    preprocessing = BACKBONES[backbone].preprocessing
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (preprocessing.mean, preprocessing.std))
    with torch.no_grad():
        logits, activation = network((pixels.permute(0, 3, 1, 2) / 255 - mean) / std)
    found = Model(bundle, "cpu").run(pixels)
    assert (found.logits - logits).abs().max() <= 1e-4
    assert (found.activation - activation).abs().max() <= 1e-4
    assert bundle.manifest.classes == tuple(CLASSES)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_activation_is_relu_d_and_pooling_it_gives_the_logits(tmp_path: Path, backbone: str) -> None:
    bundle = load_bundle(export_random(tmp_path, backbone))
    pixels = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    found = Model(bundle, "cpu").run(pixels)
    assert found.activation.min() >= 0
    again = F.linear(found.features, bundle.state["classifier.weight"], bundle.state["classifier.bias"])
    assert torch.allclose(again, found.logits, atol=1e-4)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="do not fit this backbone"):
        export_random(tmp_path, "resnet20-cifar", **{"linear.weight": torch.zeros(3, 7)})


def test_missing_weights_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"1 names differ, such as bn1\.weight"):
        export_random(tmp_path, "resnet20-cifar", **{"bn1.weight": None})


def test_weights_that_are_no_safetensors_are_refused(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"\x80\x04pickled?")
    with pytest.raises(ExportError, match=r"w\.safetensors"):
        build_network(BACKBONES["resnet20-cifar"], tmp_path / "w.safetensors", 3)


def test_an_unknown_backbone_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="densenet-bc-100-12"):
        export_bundle("alexnet", tmp_path / "w", tmp_path / "c", tmp_path / "b", BundleName("b"))


def test_answers_that_differ_too_much_are_refused() -> None:
    zeros = torch.zeros(2, 3)
    with pytest.raises(ExportError, match="activation differ by"):
        check_parity((zeros, zeros), (zeros, zeros + 1e-3))
    with pytest.raises(ExportError, match="logits differ by nan"):
        check_parity((zeros, zeros), (zeros * float("nan"), zeros))


@pytest.mark.parametrize(
    ("name", "text"), [("c.json", '["ant", "bee"]'), ("c.txt", "ant\nbee\n"), ("c.names", " ant \n\n bee")]
)
def test_classes_come_from_json_or_lines(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_classes(tmp_path / name) == ("ant", "bee")


@pytest.mark.parametrize("text", ['["ant"]', '["ant", "ant"]', '{"ant": 0}', "[1, 2]", "[", "[]"])
def test_unusable_classes_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(ExportError, match=r"c\.json"):
        read_classes(tmp_path / "c.json")


def test_provenance_travels_in_the_bundle(tmp_path: Path) -> None:
    export_random(tmp_path, "resnet20-cifar")
    (tmp_path / "p.json").write_text('{"epochs": 3}')
    called = BundleName("other", "2", tmp_path / "p.json")
    weights, classes = tmp_path / "weights.safetensors", tmp_path / "classes.json"
    export_bundle("resnet20-cifar", weights, classes, tmp_path / "other", called)
    manifest = load_bundle(tmp_path / "other").manifest
    assert (manifest.name, manifest.version) == ("other", "2")
    assert manifest.provenance["training"] == {"epochs": 3}


def test_an_exported_bundle_has_no_threshold_yet(tmp_path: Path) -> None:
    bundle = load_bundle(export_random(tmp_path, "resnet20-cifar"))
    with pytest.raises(BundleError, match="oodgate calibrate"):
        _ = bundle.calibration

"""Weights and classes -> bundle, for the networks of the catalogue; what the bundle says of itself."""

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
from oodgate.offline.export import BundleName, ExportPlan, export_bundle
from oodgate.offline.exporting.classes import read_classes
from oodgate.offline.exporting.probes import check_parity
from oodgate.offline.exporting.weights import load_weights

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
    network = BACKBONES[backbone].build(len(CLASSES)).eval()
    load_weights(network, tmp_path / "weights.safetensors")
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
    with pytest.raises(ExportError, match=r"linear.weight has shape \(3, 7\), the network's has \(3, 64\)"):
        export_random(tmp_path, "resnet20-cifar", **{"linear.weight": torch.zeros(3, 7)})


def test_missing_weights_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"1 names differ, such as bn1\.weight"):
        export_random(tmp_path, "resnet20-cifar", **{"bn1.weight": None})


def test_an_unknown_network_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(json.dumps(CLASSES))
    with pytest.raises(ExportError, match="there is no network 'lenet'; give one of densenet-bc-100-12"):
        export_bundle("lenet", tmp_path / "w", tmp_path / "c.json", tmp_path / "b", BundleName("b"))


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
    classes = read_classes(tmp_path / name)
    assert (classes.names, classes.ids, classes.parents) == (("ant", "bee"), (), {})


@pytest.mark.parametrize(
    "content",
    [
        [{"name": "ant", "id": "n1", "parent": "insect"}, {"name": "bee", "id": "n2", "parent": "insect"}],
        {
            "classes": [{"name": "ant", "id": "n1"}, {"name": "bee", "id": "n2", "parent": "insect"}],
            "parents": {"ant": "insect"},
        },
    ],
)
def test_classes_bring_ids_and_parents(tmp_path: Path, content: object) -> None:
    (tmp_path / "c.json").write_text(json.dumps(content))
    classes = read_classes(tmp_path / "c.json")
    assert (classes.names, classes.ids) == (("ant", "bee"), ("n1", "n2"))
    assert classes.parents == {"ant": "insect", "bee": "insect"}


@pytest.mark.parametrize(
    "text",
    [
        '["ant"]',
        '["ant", "ant"]',
        '{"ant": 0}',
        "[1, 2]",
        "[",
        "[]",
        '["ant", ""]',
        '[{"name": "ant", "id": "1"}, "bee"]',
        '[{"name": "ant", "colour": "red"}, "bee"]',
        '{"classes": ["ant", "bee"], "parents": ["insect"]}',
        '{"classes": ["ant", "bee"], "parents": {"ant": 1}}',
    ],
)
def test_unusable_classes_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(ExportError, match=r"c\.json"):
        read_classes(tmp_path / "c.json")


def test_the_hierarchy_and_ids_travel_in_the_bundle_and_a_circle_is_refused(tmp_path: Path) -> None:
    export_random(tmp_path, "resnet20-cifar")
    weights, classes = tmp_path / "weights.safetensors", tmp_path / "other.json"
    named = [{"name": name, "id": f"n{index}"} for index, name in enumerate(CLASSES)]
    classes.write_text(json.dumps({"classes": named, "parents": {"ant": "insect", "insect": "animal"}}))
    manifest = export_bundle("resnet20-cifar", weights, classes, tmp_path / "h", BundleName("h")).manifest
    assert manifest.class_ids == ("n0", "n1", "n2")
    assert manifest.ancestors("ant") == ("insect", "animal")
    classes.write_text(json.dumps({"classes": named, "parents": {"ant": "bee", "bee": "ant"}}))
    with pytest.raises(ExportError, match="the hierarchy goes in a circle"):
        export_bundle("resnet20-cifar", weights, classes, tmp_path / "h", BundleName("h"))


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


def test_a_name_that_no_folder_could_have_is_refused(tmp_path: Path) -> None:
    export_random(tmp_path, "resnet20-cifar")
    weights, classes = tmp_path / "weights.safetensors", tmp_path / "classes.json"
    with pytest.raises(ExportError, match="the bundle cannot be described, 'name': "):
        export_bundle("resnet20-cifar", weights, classes, tmp_path / "b", BundleName("../Mine"))


def test_a_network_without_weights_is_refused_unless_random_ones_are_wanted(tmp_path: Path) -> None:
    classes = tmp_path / "classes.json"
    classes.write_text(json.dumps(CLASSES))
    with pytest.raises(ExportError, match="weights would be random; give its trained ones with --weights"):
        export_bundle("resnet20-cifar", None, classes, tmp_path / "b", BundleName("b"))
    plan = ExportPlan(random_weights=True)
    one, two = (export_bundle("resnet20-cifar", None, classes, tmp_path / "b", BundleName("b"), plan) for _ in "ab")
    assert any("the weights are random" in notice for notice in one.manifest.notices)
    assert torch.equal(one.state["classifier.weight"], two.state["classifier.weight"])

"""Every family of torchvision, and two of timm: the exported activation against one that a hook took by itself."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models import get_model_weights

from oodgate.bundle import FORMAT_VERSION, Manifest, Outputs
from oodgate.engines import ENGINES
from oodgate.errors import CalibrationError, ExportError
from oodgate.images.preprocess import Preprocessing, preprocess
from oodgate.offline.exporting.building import build_model, classifier_of
from oodgate.offline.exporting.exposure import Exposed, expose
from oodgate.offline.exporting.probes import probe_images
from oodgate.offline.exporting.sources import open_source
from oodgate.offline.exporting.transforms import timm_preprocessing, torchvision_preprocessing
from oodgate.offline.fit import check_methods
from oodgate.scores.methods import METHODS
from oodgate.scores.nap import nap

CLASSES, SIDE = 7, 64
CUT, CAPPED, FLAT, NO_CLASSIFIER = "negative values", "capped at 6", "place by place", "no linear function"

Reference = Callable[[nn.Module, Tensor], Tensor]


def output_of(layer: str) -> Reference:
    """The ReLU'd output of a module, taken by a hook."""

    def run(network: nn.Module, images: Tensor) -> Tensor:
        return torch.relu(hooked(network, layer, images)[1])

    return run


def hooked(network: nn.Module, layer: str, images: Tensor) -> tuple[Tensor, Tensor]:
    """First input and output of a module in one forward."""
    seen: dict[str, Any] = {}
    hook = network.get_submodule(layer).register_forward_hook(
        lambda module, args, output: seen.update(input=args[0], output=output.clone())
    )
    network(images)
    hook.remove()
    return seen["input"], seen["output"]


def swin_map(network: nn.Module, images: Tensor) -> Tensor:
    return torch.relu(hooked(network, "norm", images)[1].permute(0, 3, 1, 2))


def torchvision_attention(network: Any, images: Tensor) -> Tensor:
    """torch's own attention weights of the last block, which are there when they are asked for."""
    _, tokens = hooked(network, "encoder.layers.encoder_layer_11.ln_1", images)
    attention = network.encoder.layers[-1].self_attention
    _, weights = attention(tokens, tokens, tokens, need_weights=True, average_attn_weights=False)
    return weights[:, :, 0].mean(1)[:, None, None]  # (N, heads, tokens, tokens) -> (N, 1, 1, tokens)


def timm_attention(network: Any, images: Tensor) -> Tensor:
    attention = network.blocks[-1].attn
    tokens, _ = hooked(network, f"blocks.{len(network.blocks) - 1}.attn", images)
    count, length, width = tokens.shape
    parts = attention.qkv(tokens).reshape(count, length, 3, attention.num_heads, width // attention.num_heads)
    query, key = parts[:, :, 0].transpose(1, 2), parts[:, :, 1].transpose(1, 2)
    products = query @ key.transpose(2, 3) * attention.scale  # (N, heads, tokens, tokens)
    return products.softmax(-1)[:, :, 0].mean(1)[:, None, None]


FAMILIES: dict[str, tuple[Reference, tuple[int, ...], tuple[str, ...]]] = {
    "resnet18": (output_of("layer4"), (512, 2, 2), ()),
    "resnet50": (output_of("layer4"), (2048, 2, 2), ()),
    "mobilenet_v2": (output_of("features"), (1280, 2, 2), (CAPPED,)),
    "densenet121": (output_of("features"), (1024, 2, 2), ()),
    "vgg16": (output_of("features"), (512, 2, 2), (FLAT, NO_CLASSIFIER)),
    "vgg16_bn": (output_of("features"), (512, 2, 2), (FLAT, NO_CLASSIFIER)),
    "efficientnet_b0": (output_of("features"), (1280, 2, 2), (CUT, NO_CLASSIFIER)),
    "convnext_tiny": (output_of("features"), (768, 2, 2), (CUT, NO_CLASSIFIER)),
    "regnet_y_400mf": (output_of("trunk_output"), (440, 2, 2), ()),
    "swin_t": (swin_map, (768, 2, 2), (CUT, NO_CLASSIFIER)),
    "vit_b_16": (torchvision_attention, (1, 1, 17), ("averaged over heads before its maximum",)),
}
TIMM: dict[str, tuple[Reference, tuple[int, ...], tuple[str, ...]]] = {
    "timm:resnet18": (output_of("layer4"), (512, 2, 2), ()),
    "timm:vit_tiny_patch16_224": (timm_attention, (1, 1, 197), ("averaged over heads before its maximum",)),
}


def check_family(name: str, reference: Reference, shape: tuple[int, ...], notices: tuple[str, ...], side: int) -> None:
    network = open_source(name, CLASSES, (side, side)).network.eval().requires_grad_(False)
    exposed = expose(network, CLASSES, (side, side))
    model, outputs = build_model(exposed, "torchscript", (side, side))
    assert (outputs.logits, outputs.activation) == ((CLASSES,), shape)
    images = probe_images(3, (side, side), seed=9)
    with torch.no_grad():
        logits, activation = ENGINES["torchscript"].load(model, torch.device("cpu"), torch.float32)(images)
        expected = reference(network, images)
        torch.testing.assert_close(logits, network(images), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(activation, expected, rtol=1e-4, atol=1e-4 * float(expected.max().clamp(min=1)))
    assert activation.min() >= 0
    formula = ((expected.amax((2, 3)) / (expected.mean((2, 3)) + 1)) ** 2).mean(1)
    torch.testing.assert_close(nap(activation, activation.mean((2, 3)), 1.0), formula, rtol=1e-3, atol=1e-6)
    check_notices(exposed, notices, (side, side))


def check_notices(exposed: Exposed, notices: tuple[str, ...], size: tuple[int, int]) -> None:
    known = [notice for notice in notices if notice != NO_CLASSIFIER]
    assert len(exposed.notices) == len(known)
    assert all(part in notice for part, notice in zip(known, exposed.notices, strict=True))
    has_classifier = NO_CLASSIFIER not in notices and exposed.kind == "map"
    assert set(classifier_of(exposed, size)) == ({"classifier.weight", "classifier.bias"} if has_classifier else set())


@pytest.mark.parametrize("name", FAMILIES)
def test_a_torchvision_network_exports_the_map_that_it_pools(name: str) -> None:
    check_family(name, *FAMILIES[name], SIDE)


@pytest.mark.parametrize("name", TIMM)
def test_a_timm_network_exports_the_map_that_it_pools(name: str) -> None:
    pytest.importorskip("timm")
    check_family(name, *TIMM[name], 224 if "vit" in name else SIDE)


def test_the_logits_of_a_relu_network_follow_from_the_classifier_in_the_bundle() -> None:
    network = open_source("densenet121", CLASSES, None).network.eval().requires_grad_(False)
    exposed = expose(network, CLASSES, (SIDE, SIDE))
    state, images = classifier_of(exposed, (SIDE, SIDE)), probe_images(3, (SIDE, SIDE), seed=5)
    logits, activation = exposed.network(images)
    again = activation.mean((2, 3)) @ state["classifier.weight"].T + state["classifier.bias"]
    torch.testing.assert_close(again, logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_scores_of_pooled_features_are_refused_for_attention_and_no_others(method: str) -> None:
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        name="vit",
        version="1",
        classes=("ant", "bee"),
        preprocessing=Preprocessing(resize=32, crop=(32, 32), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        outputs=Outputs(logits=(2,), activation=(1, 1, 17), kind="attention"),
    )
    check_methods(manifest.model_copy(update={"outputs": Outputs(logits=(2,), activation=(8, 4, 4))}), [method])
    logits_or_nap = ("nap", "nap_variance", "nap_unsquared", "nap_minus", "msp", "energy", "mls", "gen")
    if method in logits_or_nap:
        check_methods(manifest, [method])
        return
    with pytest.raises(CalibrationError, match=f"score '{method}' reads pooled features and bundle 'vit' exports"):
        check_methods(manifest, [method])


SIZES = [(500, 375), (301, 300), (90, 400), (224, 224), (256, 256), (333, 250), (640, 231)]


def photograph(width: int, height: int) -> Image.Image:
    """Smooth shapes with fine noise, as photographs have."""
    noise = np.random.default_rng(width)
    coarse = Image.fromarray(noise.integers(0, 256, (9, 9, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=int)
    return Image.fromarray(np.clip(smooth + noise.integers(-20, 21, smooth.shape), 0, 255).astype(np.uint8))


def assert_grey_levels_agree(transform: Callable[[Image.Image], Tensor], ours: Preprocessing) -> None:
    """Hold preprocess and normalisation to a library's transform, to one grey level of 256."""
    mean, std = torch.tensor(ours.mean).view(3, 1, 1), torch.tensor(ours.std).view(3, 1, 1)
    for size in SIZES:
        picture = photograph(*size)
        expected = transform(picture)
        found = (torch.from_numpy(preprocess(np.array(picture), ours)).permute(2, 0, 1) / 255 - mean) / std
        assert found.shape == expected.shape
        assert float(((found - expected) * std).abs().max()) * 255 <= 1.001, size


@pytest.mark.parametrize(
    "name", ["resnet18", "resnet50", "mobilenet_v2", "efficientnet_b0", "convnext_tiny", "vit_b_16", "swin_t", "vgg16"]
)
def test_preprocessing_equals_the_transform_of_torchvisions_weights(name: str) -> None:
    transform = get_model_weights(name).DEFAULT.transforms()
    assert_grey_levels_agree(transform, torchvision_preprocessing(name))


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "efficientnet_b0"])
def test_preprocessing_equals_the_transform_of_timm(name: str) -> None:
    timm = pytest.importorskip("timm")
    network = timm.create_model(name, pretrained=False)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network), is_training=False)
    assert_grey_levels_agree(transform, timm_preprocessing(network))


def test_preprocessing_equals_the_transform_of_timm_where_it_squashes() -> None:
    timm = pytest.importorskip("timm")
    overlay = {"crop_mode": "squash", "crop_pct": 0.9, "input_size": (3, 64, 96)}
    network = timm.create_model("resnet18", pretrained=False, pretrained_cfg_overlay=overlay)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network), is_training=False)
    assert timm_preprocessing(network).resize == (71, 106)
    assert_grey_levels_agree(transform, timm_preprocessing(network))


@pytest.mark.parametrize("overlay", [{"crop_mode": "border"}, {"input_size": (3, 64, 96)}, {"input_size": (1, 64, 64)}])
def test_preprocessing_of_timm_that_a_bundle_cannot_express_is_refused(overlay: dict[str, object]) -> None:
    timm = pytest.importorskip("timm")
    network = timm.create_model("resnet18", pretrained=False, pretrained_cfg_overlay=overlay)
    with pytest.raises(ExportError, match="a bundle squashes RGB images or crops a square centre of them"):
        timm_preprocessing(network)

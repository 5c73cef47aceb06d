"""Networks of users' own making: what is found in each, what is said of it, and what is refused."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from conftest import TinyNetwork
from oodgate.errors import ExportError
from oodgate.offline.exporting.building import build_model, classifier_of
from oodgate.offline.exporting.exposure import Exposed, adopt, expose
from oodgate.offline.exporting.probes import probe_images

CLASSES, SIZE = 4, (32, 32)


class Body(nn.Module):
    """Two convolutions; subclasses pool the map (N, 8, 8, 8) and classify it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.second = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.fc = nn.Linear(8, CLASSES)
        self.other = nn.Linear(8, 3)
        self.query = nn.Conv2d(8, 1, 1)
        self.power = nn.Parameter(torch.tensor(3.0))

    def map(self, images: Tensor) -> Tensor:
        return F.relu(self.second(F.relu(self.first(images))))


class MeanOfPlaces(Body):
    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.map(images).mean((2, 3)))


class Gem(Body):
    def forward(self, images: Tensor) -> Tensor:
        powers = self.map(images).pow(self.power)
        return self.fc(F.avg_pool2d(powers, powers.shape[-2:]).flatten(1).clamp(min=1e-6).pow(1 / self.power))


class GlobalMaximum(Body):
    def forward(self, images: Tensor) -> Tensor:
        return self.fc(torch.flatten(F.adaptive_max_pool2d(self.map(images), 1), 1))


class TwoHeads(Body):
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        pooled = self.map(images).mean((2, 3))
        return self.other(pooled), self.fc(pooled)


class NamedHeads(Body):
    def forward(self, images: Tensor) -> dict[str, object]:
        pooled = self.map(images).mean((2, 3))
        return {"embedding": pooled, "heads": [self.other(pooled), {"classes": self.fc(pooled)}]}


class WeighedByAttention(Body):
    def forward(self, images: Tensor) -> Tensor:
        found = self.map(images)
        weights = self.query(found).flatten(2).softmax(-1).view(found.shape[0], 1, *found.shape[2:])
        return self.fc((found * weights).sum((2, 3)))


class FlatAttention(Body):
    def forward(self, images: Tensor) -> Tensor:
        found = self.map(images)
        weights = self.query(found).flatten(2).softmax(-1)  # (N, 1, places)
        return self.fc((found.flatten(2) @ weights.transpose(1, 2)).squeeze(2))


class Gated(Body):
    """Squeeze and excitation before the pooling is part of the map, not attention over places."""

    def forward(self, images: Tensor) -> Tensor:
        found = self.map(images)
        return self.fc((found * torch.sigmoid(found.mean((2, 3), keepdim=True))).mean((2, 3)))


class ChannelsLast(Body):
    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.map(images).permute(0, 2, 3, 1).contiguous().mean((1, 2)))


class Tokens(Body):
    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.map(images).flatten(2).transpose(1, 2).mean(dim=1))


class InPlaceAndIgnored(Body):
    def forward(self, images: Tensor) -> Tensor:
        found = self.second(F.relu(self.first(images)))
        found.relu_()
        return self.fc(found.mean((2, 3)))


class BeforeItsRelu(Body):
    """As torchvision's DenseNet: the last ReLU is a call in forward."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, stride=4), nn.BatchNorm2d(8))

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(F.adaptive_avg_pool2d(F.relu(self.features(images), inplace=True), (1, 1)).flatten(1))


class ConvolutionalClassifier(Body):
    """As SqueezeNet: one map for each class is pooled."""

    def __init__(self) -> None:
        super().__init__()
        self.classify = nn.Conv2d(8, CLASSES, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.classify(self.map(images)).mean((2, 3))


FOUND: dict[type[Body], Callable[[Body, Tensor], Tensor]] = {
    MeanOfPlaces: Body.map,
    Gem: Body.map,
    GlobalMaximum: Body.map,
    TwoHeads: Body.map,
    NamedHeads: Body.map,
    WeighedByAttention: Body.map,
    FlatAttention: Body.map,
    ChannelsLast: Body.map,
    InPlaceAndIgnored: Body.map,
    ConvolutionalClassifier: Body.map,
    Gated: lambda network, images: network.map(images) * torch.sigmoid(network.map(images).mean((2, 3), keepdim=True)),
    Tokens: lambda network, images: network.map(images).flatten(2).unsqueeze(2),
    BeforeItsRelu: lambda network, images: F.relu(network.features(images)),
}


def made(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(1)
    return kind().eval().requires_grad_(False)


def exposed(kind: type[nn.Module], layer: str | None = None) -> Exposed:
    return expose(made(kind), CLASSES, SIZE, layer)


@pytest.mark.parametrize("kind", FOUND)
def test_the_map_before_pooling_is_found(kind: type[Body]) -> None:
    network, images = made(kind), probe_images(3, SIZE, seed=4)
    found = expose(network, CLASSES, SIZE)
    build_model(found, "torchscript", SIZE)  # which holds the traced network against the original
    logits, activation = found.network(images)
    torch.testing.assert_close(activation, FOUND[kind](network, images))
    assert logits.shape == (3, CLASSES)


@pytest.mark.parametrize("kind", [MeanOfPlaces, TwoHeads, NamedHeads, ChannelsLast, Tokens, ConvolutionalClassifier])
def test_the_classifier_is_in_the_bundle_where_it_is_linear_in_the_pooled_map(kind: type[Body]) -> None:
    found = exposed(kind)
    state, (logits, activation) = classifier_of(found, SIZE), found.network(probe_images(2, SIZE, seed=8))
    again = F.linear(activation.mean((2, 3)), state["classifier.weight"], state["classifier.bias"])
    torch.testing.assert_close(again, logits)


@pytest.mark.parametrize("kind", [Gem, GlobalMaximum, WeighedByAttention, FlatAttention])
def test_the_classifier_is_left_out_where_another_pooling_comes_before_it(kind: type[Body]) -> None:
    assert classifier_of(exposed(kind), SIZE) == {}


@pytest.mark.parametrize("kind", [TwoHeads, NamedHeads])
def test_of_several_heads_the_first_with_a_column_for_each_class_is_taken(kind: type[Body]) -> None:
    network, images = made(kind), probe_images(2, SIZE)
    found = expose(network, CLASSES, SIZE)
    assert torch.equal(found.network(images)[0], network.fc(network.map(images).mean((2, 3))))
    assert "tensors that the network answers, the first (N, 4) is taken for the logits" in found.reason


@pytest.mark.parametrize("kind", [WeighedByAttention, FlatAttention])
def test_attention_pooling_is_said(kind: type[Body]) -> None:
    assert exposed(kind).notices == ("the map is pooled by learned attention; the activation is the map before it",)


def test_a_relu_network_has_nothing_to_be_warned_of() -> None:
    assert exposed(MeanOfPlaces).notices == ()
    assert "pooled, since the logits do not change when its places are shuffled" in exposed(MeanOfPlaces).reason


class Silu(Body):
    def forward(self, images: Tensor) -> Tensor:
        return self.fc(F.silu(self.second(F.relu(self.first(images)))).mean((2, 3)))


def test_negative_values_are_cut_for_nap_and_the_logits_are_not_touched() -> None:
    network, images = made(Silu), probe_images(3, SIZE, seed=2)
    found = expose(network, CLASSES, SIZE)
    logits, activation = found.network(images)
    assert torch.equal(logits, network(images))
    assert torch.equal(activation, F.relu(F.silu(network.second(F.relu(network.first(images))))))
    assert "has negative values (from silu" in found.notices[0]
    assert classifier_of(found, SIZE) == {}


class Flattened(Body):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Linear(8 * 64, 10), nn.ReLU(), nn.Linear(10, CLASSES))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.map(images).flatten(1))


def test_a_map_that_is_flattened_is_taken_and_said() -> None:
    assert exposed(Flattened).notices == ("the classifier reads the map place by place and does not pool it globally",)


def test_a_layer_that_is_named_is_taken() -> None:
    network, images = made(MeanOfPlaces), probe_images(2, SIZE)
    found = expose(network, CLASSES, SIZE, "first")
    assert torch.equal(found.network(images)[1], F.relu(network.first(images)))
    assert found.reason == "the output of the layer named, 'first'"


class Branches(Body):
    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.map(images).mean((2, 3)) + images.mean((2, 3)).sum(1, keepdim=True))


def test_a_named_layer_that_does_not_decide_alone_is_said() -> None:
    assert "the logits do not follow from the layer named, 'second', alone" in exposed(Branches, "second").notices


@pytest.mark.parametrize("layer", ["third", "fc", "query"])
def test_a_layer_that_answers_no_map_is_refused_by_name(layer: str) -> None:
    with pytest.raises(ExportError, match=f"layer '{layer}'"):
        exposed(MeanOfPlaces, layer)


class Perceptron(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 20), nn.ReLU(), nn.Linear(20, CLASSES))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class NormalisingPerceptron(Perceptron):
    def forward(self, images: Tensor) -> Tensor:
        return self.layers((images - 0.5) / 0.25)


def test_a_network_without_any_map_is_refused() -> None:
    with pytest.raises(ExportError, match="NAP reads the map before global pooling: it does not apply"):
        exposed(Perceptron)


def test_pixels_are_no_map() -> None:
    with pytest.raises(ExportError, match="no map is pooled for the classifier"):
        exposed(NormalisingPerceptron)


class ShrunkToOnePlace(Body):
    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Conv2d(8, 8, 8)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(F.relu(self.last(self.map(images))).mean((2, 3)))


def test_a_map_that_only_further_convolutions_read_is_refused() -> None:
    with pytest.raises(ExportError, match="Give a larger --input where later maps shrink to one place"):
        exposed(ShrunkToOnePlace)


class SmallTransformer(nn.Module):
    """A class token at the front; attention is written out, without torch's own module."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 12, 8, stride=8)
        self.token = nn.Parameter(torch.randn(1, 1, 12))
        self.projections = nn.ModuleList(nn.Linear(12, 36) for _ in range(3))
        self.fc = nn.Linear(12, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(tokens.shape[0], -1, -1), tokens], 1)
        for projection in self.projections:
            tokens = tokens + self.attend(projection, tokens)[1]
        return self.fc(tokens[:, 0])

    def attend(self, projection: nn.Module, tokens: Tensor) -> tuple[Tensor, Tensor]:
        parts = projection(tokens).unflatten(2, (3, 2, 6)).permute(2, 0, 3, 1, 4)  # (3, N, heads, tokens, 6)
        weights = (parts[0] @ parts[1].transpose(2, 3)).softmax(-1)
        return weights, (weights @ parts[2]).transpose(1, 2).flatten(2)


class FusedTransformer(SmallTransformer):
    def attend(self, projection: nn.Module, tokens: Tensor) -> tuple[Tensor, Tensor]:
        parts = projection(tokens).unflatten(2, (3, 2, 6)).permute(2, 0, 3, 1, 4)
        answer = F.scaled_dot_product_attention(parts[0], parts[1], parts[2], scale=1.0)
        return answer, answer.transpose(1, 2).flatten(2)


@pytest.mark.parametrize("kind", [SmallTransformer, FusedTransformer])
def test_the_class_tokens_attention_of_ones_own_transformer_is_found(kind: type[SmallTransformer]) -> None:
    network, images = made(kind), probe_images(3, SIZE, seed=3)
    found = expose(network, CLASSES, SIZE)
    _, outputs = build_model(found, "torchscript", SIZE)
    tokens = network.patches(images).flatten(2).transpose(1, 2)
    tokens = torch.cat([network.token.expand(3, -1, -1), tokens], 1)
    for projection in network.projections:
        weights = SmallTransformer.attend(network, projection, tokens)[0]  # type: ignore[arg-type]
        tokens = tokens + SmallTransformer.attend(network, projection, tokens)[1]  # type: ignore[arg-type]
    torch.testing.assert_close(found.network(images)[1], weights[:, :, 0].mean(1)[:, None, None])
    assert (outputs.kind, outputs.activation) == ("attention", (1, 1, 17))
    assert classifier_of(found, SIZE) == {}


class AveragedTransformer(SmallTransformer):
    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.patches(images).flatten(2).transpose(1, 2).mean(1))


def test_tokens_that_are_averaged_are_a_map_in_one_row() -> None:
    found = exposed(AveragedTransformer)
    assert found.kind == "map"
    assert found.network(probe_images(2, SIZE))[1].shape == (2, 12, 1, 16)


class Probabilities(Body):
    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.map(images).mean((2, 3))).softmax(1)


class LogProbabilities(Body):
    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.map(images).mean((2, 3))).log_softmax(1)


class Overflowing(Body):
    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.map(images).mean((2, 3))) / 0


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (Probabilities, "answers probabilities or their logarithms"),
        (LogProbabilities, "answers probabilities or their logarithms"),
        (Overflowing, "logits are not finite"),
    ],
)
def test_answers_that_are_no_logits_are_refused(kind: type[Body], sentence: str) -> None:
    with pytest.raises(ExportError, match=sentence):
        exposed(kind)


def test_another_number_of_classes_is_refused() -> None:
    with pytest.raises(ExportError, match=r"answers \(6, 4\) and there are 5 classes; expected logits \(N, 5\)"):
        expose(made(MeanOfPlaces), 5, SIZE)


class FixedBatch(Body):
    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.map(images).view(len(images), 8, 64).mean(2))


def test_a_trace_that_keeps_the_number_of_images_is_refused() -> None:
    with pytest.raises(ExportError, match=r"fails on a batch of 1 .*try another --engine"):
        build_model(exposed(FixedBatch), "torchscript", SIZE)


class NegativeOutput(nn.Module):
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return images.amax((2, 3)).repeat(1, 2)[:, :CLASSES], images


def test_a_network_that_answers_both_is_adopted_and_its_activation_cut() -> None:
    images = probe_images(2, SIZE)
    assert adopt(made(TinyNetwork), CLASSES, SIZE).notices == ()
    found = adopt(NegativeOutput(), CLASSES, SIZE)
    assert torch.equal(found.network(images)[1], F.relu(images))
    assert "has negative values (from the network's own output" in found.notices[0]
    with pytest.raises(ExportError, match=r"answers \(6, 4\); expected two tensors"):
        adopt(made(MeanOfPlaces), CLASSES, SIZE)

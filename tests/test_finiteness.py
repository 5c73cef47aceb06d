"""Which networks make no NaN of finite numbers: judged by their operators, and wrong on the safe side alone."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import get_model

from oodgate.engines import torchscript_is_wanted
from oodgate.finiteness import stays_finite

Operation = Callable[[Tensor], Tensor]

EVEN = torch.tensor([2.0, -4.0]).repeat(31)
EVEN_BUT_ZERO = torch.tensor([2.0, 0.0]).repeat(31)
ENDLESS = torch.tensor(float("inf"))


class Applied(nn.Module):
    """A convolution, and what is done with its answer."""

    def __init__(self, operation: Operation) -> None:
        super().__init__()
        self.conv, self._operation = nn.Conv2d(3, 8, 3), operation

    def forward(self, images: Tensor) -> Tensor:
        return self._operation(torch.relu(self.conv(images)))


class Chosen(nn.Module):
    """Does one thing with bright images and another with dark ones."""

    def forward(self, images: Tensor) -> Tensor:
        return 2 * images if bool(images.mean() > 0) else images.relu()


class ChosenDivisor(nn.Module):
    """Divides bright images by their mean."""

    def forward(self, images: Tensor) -> Tensor:
        mean = images.mean()
        return images / mean if bool(mean > 0.5) else images


def traced(network: nn.Module) -> torch.jit.ScriptModule:
    with torchscript_is_wanted():
        found: torch.jit.ScriptModule = torch.jit.trace(network.eval(), torch.rand(2, 3, 64, 64), check_trace=False)
        return found


def scripted(network: nn.Module) -> torch.jit.ScriptModule:
    with torchscript_is_wanted():
        found: torch.jit.ScriptModule = torch.jit.script(network.eval())
        return found


def frozen(network: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
    with torchscript_is_wanted():
        found: torch.jit.ScriptModule = torch.jit.freeze(network)
        return found


@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenet_v2", "mobilenet_v3_small", "densenet121", "efficientnet_b0", "convnext_tiny"]
)
def test_the_networks_of_the_field_stay_finite(name: str) -> None:
    network = traced(get_model(name, weights=None))
    assert stays_finite(network)
    assert stays_finite(frozen(network))


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: x / 2,
        lambda x: x / EVEN,
        lambda x: nn.functional.layer_norm(x, (62, 62)),
        lambda x: nn.functional.scaled_dot_product_attention(x, x, x),
        lambda x: x.softmax(1) * x.sigmoid() + x.mean((2, 3), keepdim=True),
        lambda x: x.flatten(1).view(x.shape[0], -1, 31),
    ],
)
def test_operators_that_cannot_make_nan_are_known(operation: Operation) -> None:
    assert stays_finite(traced(Applied(operation)))


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: x / x.amax((2, 3), keepdim=True),
        lambda x: x / EVEN_BUT_ZERO,
        lambda x: x.sqrt(),
        lambda x: x.log(),
        lambda x: x**-0.5,
        lambda x: x.exp(),
        lambda x: nn.functional.normalize(x) / x.std(),
        lambda x: nn.functional.layer_norm(x, (62, 62), eps=0),
        lambda x: nn.functional.scaled_dot_product_attention(x, x, x, attn_mask=x[..., :62] > 0),
        lambda x: x.masked_fill(x < 1, float("-inf")).softmax(1),
        lambda x: torch.where(x > 1, float("nan"), x),
        lambda x: x * ENDLESS,
        lambda x: torch.fft.fft2(x).real,
    ],
)
def test_whatever_may_make_nan_or_is_not_known_is_told(operation: Operation) -> None:
    assert not stays_finite(traced(Applied(operation)))


def test_weights_that_are_not_numbers_are_told() -> None:
    network = Applied(torch.relu)
    with torch.no_grad():
        network.conv.weight[0, 0, 0, 0] = torch.nan
    assert not stays_finite(traced(network))
    assert not stays_finite(frozen(traced(network)))


def test_both_ways_of_a_choice_count() -> None:
    assert stays_finite(scripted(Chosen()))
    assert not stays_finite(scripted(ChosenDivisor()))

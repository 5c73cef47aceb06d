"""Winograd's convolution gives what the plain one does, where it takes its place, and nowhere else."""

import pytest
import torch
from torch import Tensor, nn

from oodgate.acceleration import Original, convolve_faster
from oodgate.engines import load_network, save_network, torchscript_is_wanted
from oodgate.images.preprocess import Preprocessing
from oodgate.normalise import Normalise
from oodgate.winograd import rewrite

TOLERANCE = 2e-5  # of the largest number


class Network(nn.Module):
    """Convolutions in a row."""

    def __init__(self, *layers: nn.Conv2d) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        answer: Tensor = self.layers(images)
        return answer


def frozen(*layers: nn.Conv2d, side: int = 8) -> torch.jit.ScriptModule:
    saved = save_network(Network(*layers).eval(), torch.zeros(2, layers[0].in_channels, side, side))
    with torchscript_is_wanted():
        return torch.jit.freeze(load_network(saved, torch.device("cpu")))


def images(number: int, channels: int, height: int, width: int) -> Tensor:
    return torch.randn(number, channels, height, width, generator=torch.Generator().manual_seed(1))


def largest_error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("size", [(8, 8), (7, 7), (4, 12), (1, 5), (33, 18), (64, 64)])
@pytest.mark.parametrize("number", [1, 3, 17])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_it_answers_as_the_plain_convolution_for_images_of_any_size_and_number(
    size: tuple[int, int], number: int, layout: torch.memory_format
) -> None:
    layer = nn.Conv2d(32, 40, 3, padding=1)
    network, shown = frozen(layer), images(number, 32, *size).contiguous(memory_format=layout)
    assert rewrite(network) == 1
    with torch.inference_mode():
        for _ in range(3):  # the executor specialises the graph
            assert largest_error(network(shown), layer.double()(shown.double())) < TOLERANCE


def test_layers_without_bias_and_in_a_row_are_replaced_one_by_one() -> None:
    layers = [nn.Conv2d(32, 64, 3, padding=1, bias=False), nn.Conv2d(64, 32, 3, padding=1)]
    network, shown = frozen(*layers), images(2, 32, 8, 8)
    with torch.inference_mode():
        expected = nn.Sequential(*layers)(shown)
        assert rewrite(network) == 2
        assert "aten::_convolution" not in str(network.graph)
        assert largest_error(network(shown), expected) < TOLERANCE


class Rectified(nn.Module):
    """A convolution whose answer is read by a rectifier, and by the sum too where it is `shared`."""

    def __init__(self, shared: bool) -> None:
        super().__init__()
        self.layer, self.shared = nn.Conv2d(32, 32, 3, padding=1), shared

    def forward(self, images: Tensor) -> Tensor:
        answer = self.layer(images)
        rectified = torch.relu(answer)
        return rectified + answer if self.shared else rectified + 1


@pytest.mark.parametrize(("shared", "left"), [(False, 0), (True, 1)])
def test_a_rectifier_goes_with_the_convolution_that_it_alone_reads(shared: bool, left: int) -> None:
    network, shown = Rectified(shared).eval(), images(3, 32, 8, 8)
    with torchscript_is_wanted():
        traced = torch.jit.freeze(torch.jit.trace(network, shown))
    assert rewrite(traced) == 1
    assert str(traced.graph).count("aten::relu(") == left
    with torch.inference_mode():
        assert largest_error(traced(shown), network(shown)) < TOLERANCE


def test_a_network_that_was_scripted_is_rewritten_too() -> None:
    layer, shown = nn.Conv2d(32, 32, 3, padding=1), images(2, 32, 8, 8)
    with torchscript_is_wanted():
        network = torch.jit.freeze(torch.jit.script(Network(layer).eval()))
    assert rewrite(network) == 1
    with torch.inference_mode():
        assert largest_error(network(shown), layer(shown)) < TOLERANCE


def test_what_is_no_number_in_one_image_leaves_the_others_as_they_are() -> None:
    network, shown = frozen(nn.Conv2d(32, 32, 3, padding=1)), images(3, 32, 8, 8)
    assert rewrite(network) == 1
    with torch.inference_mode():
        expected = network(shown)
        shown[1] = float("nan")
        found = network(shown)
    assert found[1].isnan().all()
    assert torch.equal(found[[0, 2]], expected[[0, 2]])


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(32, 32, 3, padding=1, stride=2),
        nn.Conv2d(32, 32, 3, padding="same", dilation=2),
        nn.Conv2d(32, 32, 3),
        nn.Conv2d(32, 32, 3, padding=2, dilation=2),
        nn.Conv2d(32, 32, 5, padding=2),
        nn.Conv2d(32, 32, 1),
        nn.Conv2d(32, 32, 3, padding=1, groups=32),
        nn.Conv2d(3, 32, 3, padding=1),
        nn.Conv2d(32, 31, 3, padding=1),
    ],
)
def test_what_it_does_not_fit_is_left_as_it_is(layer: nn.Conv2d) -> None:
    network = frozen(layer)
    before = str(network.graph)
    assert rewrite(network) == 0
    assert str(network.graph) == before


def test_a_network_that_it_suits_nowhere_gets_no_copies() -> None:
    preprocessing = Preprocessing(resize=8, crop=(8, 8), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    normalise = Normalise(preprocessing, torch.device("cpu"), torch.float32)
    assert convolve_faster(Original(frozen(nn.Conv2d(3, 32, 3, padding=1)), preprocessing, normalise)) is None

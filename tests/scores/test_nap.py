import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from oodgate.scores.nap import nap, nap_minus, nap_of_layers, nap_unsquared, nap_variance

activations = arrays(
    np.float32, array_shapes(min_dims=4, max_dims=4, max_side=5), elements=st.floats(0, 1000, width=16)
)


def channels(activation: NDArray[np.float32]) -> list[list[list[float]]]:
    """Values by image and channel."""
    return [[[float(value) for value in channel.flat] for channel in image] for image in activation]


def mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


@settings(deadline=None)
@given(activations, st.floats(0.01, 10))
def test_is_the_mean_square_of_peak_over_mean(activation: NDArray[np.float32], eps: float) -> None:
    expected = [mean([(max(c) / (mean(c) + eps)) ** 2 for c in image]) for image in channels(activation)]
    tensor = torch.from_numpy(activation)
    np.testing.assert_allclose(nap(tensor, tensor.mean((2, 3)), eps).numpy(), expected, rtol=1e-4)


@settings(deadline=None)
@given(activations)
def test_variants_change_one_thing_each(activation: NDArray[np.float32]) -> None:
    tensor = torch.from_numpy(activation)
    pooled = tensor.mean((2, 3))
    images = channels(activation)
    unsquared = [mean([max(c) / (mean(c) + 1) for c in image]) for image in images]
    minus = [mean([max(c) - mean(c) for c in image]) for image in images]
    variance = [mean([mean([(value - mean(c)) ** 2 for value in c]) for c in image]) for image in images]
    np.testing.assert_allclose(nap_unsquared(tensor, pooled).numpy(), unsquared, rtol=1e-4)
    np.testing.assert_allclose(nap_minus(tensor, pooled).numpy(), minus, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(nap_variance(tensor, pooled).numpy(), variance, rtol=1e-4, atol=1e-3)


def test_eps_is_1_by_default() -> None:
    activation = torch.tensor([[[[8.0, 0.0], [0.0, 4.0]]]])  # max 8, mean 3
    assert nap(activation, activation.mean((2, 3))).item() == pytest.approx(4)


def test_several_layers_multiply() -> None:
    first, second = torch.rand(3, 4, 8, 8), 5 * torch.rand(3, 6, 2, 2)
    alone = [nap(layer, layer.mean((2, 3)), 0.5) for layer in (first, second)]
    torch.testing.assert_close(nap_of_layers([first, second], 0.5), alone[0] * alone[1])


def test_one_layer_is_nap_itself() -> None:
    layer = torch.rand(3, 4, 8, 8)
    assert nap_of_layers([layer]).equal(nap(layer, layer.mean((2, 3))))

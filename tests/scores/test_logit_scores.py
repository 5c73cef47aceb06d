"""MSP, Energy, MLS and GEN: what reads the logits alone."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from oodgate.scores.combine import FLOOR
from oodgate.scores.energy import energy
from oodgate.scores.gen import gen, gen_positive
from oodgate.scores.mls import mls
from oodgate.scores.msp import msp

all_logits = arrays(
    np.float32, array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=12), elements=st.floats(-30, 30, width=16)
)


def softmax(row: NDArray[np.float32]) -> list[float]:
    powers = [math.exp(float(logit)) for logit in row]
    return [power / math.fsum(powers) for power in powers]


@settings(deadline=None)
@given(all_logits)
def test_msp_is_the_largest_probability(logits: NDArray[np.float32]) -> None:
    expected = [max(softmax(row)) for row in logits]
    np.testing.assert_allclose(msp(torch.from_numpy(logits)).numpy(), expected, rtol=1e-5)


@settings(deadline=None)
@given(all_logits)
def test_mls_is_the_largest_logit(logits: NDArray[np.float32]) -> None:
    assert mls(torch.from_numpy(logits)).tolist() == [max(row) for row in logits]


@settings(deadline=None)
@given(all_logits, st.floats(0.5, 20))
def test_energy_is_the_soft_maximum(logits: NDArray[np.float32], temperature: float) -> None:
    expected = [
        temperature * math.log(math.fsum(math.exp(float(logit) / temperature) for logit in row)) for row in logits
    ]
    np.testing.assert_allclose(energy(torch.from_numpy(logits), temperature).numpy(), expected, rtol=1e-4, atol=1e-4)


def test_energy_of_equal_logits_adds_their_number() -> None:
    assert energy(torch.full((1, 8), 2.0)).item() == pytest.approx(2 + math.log(8))


def test_energy_does_not_overflow() -> None:
    assert energy(torch.tensor([[1e4, 0.0], [-1e4, -1e4]])).tolist() == pytest.approx([1e4, -1e4 + math.log(2)])


@settings(deadline=None)
@given(all_logits, st.floats(0.05, 1), st.integers(1, 15))
def test_gen_is_the_entropy_of_the_most_probable_classes(logits: NDArray[np.float32], gamma: float, top: int) -> None:
    expected = []
    for row in logits:
        ranked = sorted((float(logit) for logit in row), reverse=True)
        powers = [math.exp(logit) for logit in ranked]
        total = math.fsum(powers)
        others = [math.fsum(powers[:place] + powers[place + 1 :]) for place in range(len(powers))]
        terms = [(power / total * other / total) ** gamma for power, other in zip(powers, others, strict=True)]
        expected.append(-math.fsum(terms[:top]))
    np.testing.assert_allclose(gen(torch.from_numpy(logits), gamma, top).numpy(), expected, rtol=1e-4)


def test_gen_reads_a_hundred_classes_with_gamma_a_tenth_by_default() -> None:
    flat = torch.zeros(1, 1000)
    assert gen(flat).item() == pytest.approx(-100 * (0.001 * 0.999) ** 0.1, rel=1e-5)


def test_gen_tells_apart_certainties_that_float32_rounds_to_1() -> None:
    sure = torch.tensor([[25.0, 0.0], [30.0, 0.0], [35.0, 0.0]])
    assert msp(sure).tolist() == [1, 1, 1]
    scores = gen(sure)
    assert scores[0] < scores[1] < scores[2]


def test_gen_is_0_at_most_and_reaches_it_in_certainty() -> None:
    assert gen(torch.tensor([[1e4, 0.0, 0.0]])).tolist() == [0]


def test_positive_form_of_gen_stays_above_the_floor_for_a_thousand_undecided_classes() -> None:
    worst = gen(torch.zeros(1, 1000))
    assert worst.exp() < FLOOR  # why it is not the exponential
    assert gen_positive(worst).item() == pytest.approx(1 / (1 - worst.item()))
    assert gen_positive(worst) > 1000 * FLOOR
    assert gen_positive(torch.zeros(1)).item() == 1

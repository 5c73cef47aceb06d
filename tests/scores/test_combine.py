import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oodgate.conformal import p_values
from oodgate.scores.combine import FLOOR, fit_veto, is_clamped, p_combination, product, veto

positive = st.floats(1e-5, 1e5)
weights = st.floats(0, 1)
some_scores = st.lists(st.floats(-1000, 1000, width=16), min_size=1, max_size=20)


@settings(deadline=None)
@given(positive, positive, weights)
def test_product_is_the_weighted_geometric_mean(other: float, nap: float, w: float) -> None:
    found = product(torch.tensor([other]), torch.tensor([nap]), w).item()
    assert found == pytest.approx(other**w * nap ** (1 - w), rel=1e-4)


def test_product_at_the_ends_of_w_is_one_of_the_two() -> None:
    other, nap = torch.tensor([3.0, 5.0]), torch.tensor([7.0, 2.0])
    torch.testing.assert_close(product(other, nap, 1.0), other)
    torch.testing.assert_close(product(other, nap, 0.0), nap)


def test_product_clamps_what_has_no_power() -> None:
    other = torch.tensor([-4.0, 0.0, 1e-7, 1.0])
    expected = [math.sqrt(FLOOR)] * 3 + [1]
    assert product(other, torch.ones(4), 0.5).tolist() == pytest.approx(expected)
    assert is_clamped(other).tolist() == [True, True, True, False]


def test_the_floor_itself_is_not_clamped() -> None:
    assert not is_clamped(torch.tensor([FLOOR])).any()


def test_veto_standardises_by_the_logarithms_of_the_reference() -> None:
    other, nap = [1.0, 2.0, 4.0, 9.0], [3.0, 3.5, 5.0, 8.0]
    means, deviations = fit_veto(torch.tensor(other), torch.tensor(nap))
    for place, values in enumerate((other, nap)):
        logs = [math.log(value) for value in values]
        mean = sum(logs) / 4
        assert means[place].item() == pytest.approx(mean)
        assert deviations[place].item() == pytest.approx(math.sqrt(sum((log - mean) ** 2 for log in logs) / 4))


@pytest.mark.parametrize(
    ("z_other", "z_nap", "w", "expected"),
    [
        (1.5, 0.0, 0.6, 0.9),
        (1.5, 7.0, 0.6, 0.9),
        (1.5, -1.0, 0.6, 0.9),
        (1.5, -3.0, 0.6, 0.1),
        (-2.0, -1.5, 0.5, -1.25),
        (1.5, -3.0, 1.0, 1.5),
        (1.5, -3.0, 0.0, -2.0),
    ],
)
def test_veto_takes_away_where_nap_is_more_than_one_deviation_low(
    z_other: float, z_nap: float, w: float, expected: float
) -> None:
    means, deviations = torch.tensor([0.7, -0.2]), torch.tensor([0.5, 2.0])
    other = torch.tensor([math.exp(0.7 + 0.5 * z_other)])
    nap = torch.tensor([math.exp(-0.2 + 2 * z_nap)])
    assert veto(other, nap, w, means, deviations).item() == pytest.approx(expected, abs=1e-5)


def test_veto_with_a_reference_of_one_value_is_a_number() -> None:
    other, nap = torch.full((5,), 3.0), torch.full((5,), 2.0)
    assert veto(other, nap, 0.5, *fit_veto(other, nap)).isfinite().all()


@settings(deadline=None)
@given(some_scores, some_scores, some_scores, weights)
def test_p_combination_weighs_the_logarithms_of_conformal_p_values(
    scores: list[float], first: list[float], second: list[float], w: float
) -> None:
    expected = []
    for value in scores:
        p_first = (1 + sum(reference <= value for reference in first)) / (len(first) + 1)
        p_second = (1 + sum(reference <= value for reference in second)) / (len(second) + 1)
        expected.append(w * math.log(p_first) + (1 - w) * math.log(p_second))
    tensor = torch.tensor(scores)
    found = p_combination(tensor, tensor, w, torch.tensor(first).sort().values, torch.tensor(second).sort().values)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_p_combination_of_one_score_alone_is_the_p_value_of_the_gate() -> None:
    reference = torch.tensor([1.0, 2.0, 2.0, 5.0])
    scores = torch.tensor([0.0, 1.0, 2.0, 3.0, 9.0])
    found = p_combination(scores, torch.zeros(5), 1.0, reference, reference).exp()
    np.testing.assert_allclose(found.numpy(), p_values(scores.numpy(), reference.double().numpy()), rtol=1e-6)


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_p_combination_does_not_rank_what_is_no_number(broken: float) -> None:
    reference = torch.tensor([1.0, 2.0])
    found = p_combination(torch.tensor([broken, 1.0]), torch.ones(2), 0.5, reference, reference)
    assert found.isfinite().tolist() == [False, True]

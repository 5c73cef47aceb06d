"""ReAct, DICE, ASH and SCALE: Energy of features or weights in another shape, against loops in float64."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from training import CLASSIFIER, PARAMETERS, features_of, statistics_of

from oodgate.scores.ash import ash_b, ash_p, ash_s, strongest
from oodgate.scores.dice import dice, fit_dice
from oodgate.scores.react import fit_react, react
from oodgate.scores.registry import fit_methods
from oodgate.scores.scale import scale
from oodgate.scores.statistics import Statistics, StatisticsAccumulator

WEIGHT, BIAS = CLASSIFIER["classifier.weight"], CLASSIFIER["classifier.bias"]


def reference_energy(features: list[float], weight: Tensor = WEIGHT, bias: Tensor = BIAS) -> float:
    rows = zip(weight.tolist(), bias.tolist(), strict=True)
    logits = [sum(w * f for w, f in zip(row, features, strict=True)) + b for row, b in rows]
    largest = max(logits)
    return largest + math.log(sum(math.exp(logit - largest) for logit in logits))


def percentile_of(values: list[float], percentile: float) -> float:
    """Between the two values around the place (n - 1) p / 100 of the sorted list, in proportion."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * percentile / 100
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def kept_places(row: list[float], percentile: float) -> list[int]:
    """Places of the strongest features."""
    kept = max(1, len(row) - round(len(row) * percentile / 100))
    return sorted(range(len(row)), key=lambda place: -row[place])[:kept]


def batch() -> Tensor:
    return features_of(12, seed=7)[0]


def accumulated(features: Tensor, bank_size: int) -> Statistics:
    accumulator = StatisticsAccumulator(features.shape[1], 1, bank_size)
    accumulator.add(features, torch.zeros(len(features), dtype=torch.int64))
    return accumulator.finish()


def assert_rows(found: Tensor, expected: list[float]) -> None:
    np.testing.assert_allclose(found.numpy(), expected, rtol=2e-5, atol=1e-5)


def test_react_cuts_features_off_before_the_classifier() -> None:
    expected = [reference_energy([min(value, 0.7) for value in row]) for row in batch().tolist()]
    assert_rows(react(batch(), WEIGHT, BIAS, torch.tensor(0.7)), expected)


def test_react_with_a_height_that_nothing_reaches_is_energy() -> None:
    expected = [reference_energy(row) for row in batch().tolist()]
    assert_rows(react(batch(), WEIGHT, BIAS, torch.tensor(1e9)), expected)


@pytest.mark.parametrize("percentile", [0, 37.5, 90, 95, 100])
@pytest.mark.parametrize("bank_size", [12, 500])
def test_react_height_is_exact_while_all_images_fit_into_the_sample(percentile: float, bank_size: int) -> None:
    values = batch().flatten().tolist()
    clip = fit_react(accumulated(batch(), bank_size), percentile)["react.clip"]
    assert clip.shape == ()
    assert clip.dtype == torch.float32
    assert clip.item() == pytest.approx(percentile_of(values, percentile), rel=1e-6)


def test_react_height_of_a_sample_is_near_that_of_all_images() -> None:
    features, _ = features_of(4000, seed=9)
    clip = fit_react(accumulated(features, 400))["react.clip"].item()
    share_above = (features > clip).float().mean().item()
    assert share_above == pytest.approx(0.1, abs=0.01)


def test_dice_sums_over_kept_weights_alone() -> None:
    mask = torch.rand(WEIGHT.shape, generator=torch.Generator().manual_seed(0)) > 0.5
    kept = torch.where(mask, WEIGHT, 0.0)
    expected = [reference_energy(row, kept) for row in batch().tolist()]
    assert_rows(dice(batch(), WEIGHT, BIAS, mask), expected)


@pytest.mark.parametrize("percentile", [0, 10, 70, 90, 100])
def test_dice_keeps_contributions_strictly_above_one_percentile_for_the_whole_table(percentile: float) -> None:
    statistics = statistics_of()
    means = statistics.mean.tolist()
    table = [[w * m for w, m in zip(row, means, strict=True)] for row in WEIGHT.double().tolist()]
    limit = percentile_of([value for row in table for value in row], percentile)
    mask = fit_dice(statistics, WEIGHT, percentile)["dice.mask"]
    assert mask.tolist() == [[value > limit for value in row] for row in table]


def test_dice_keeps_nothing_of_equal_contributions() -> None:
    statistics = accumulated(torch.ones(3, 4), 3)
    assert not fit_dice(statistics, torch.full((2, 4), 0.5), 90)["dice.mask"].any()


def test_dice_counts_no_negative_contribution_as_strong() -> None:
    statistics = accumulated(torch.ones(3, 4), 3)
    weight = torch.tensor([[-9.0, 1.0, 2.0, 3.0]])
    assert fit_dice(statistics, weight, 50)["dice.mask"].tolist() == [[False, False, True, True]]


@pytest.mark.parametrize("percentile", [50, 65, 90, 95])
def test_ash_shapes_the_strongest_features_of_each_image(percentile: float) -> None:
    scaled, binary, pruned = [], [], []
    for row in batch().tolist():
        places = kept_places(row, percentile)
        before, after = sum(row), sum(row[place] for place in places)
        keep = [value if place in places else 0.0 for place, value in enumerate(row)]
        pruned.append(reference_energy(keep))
        scaled.append(reference_energy([value * math.exp(before / after) for value in keep]))
        binary.append(reference_energy([before / len(places) if value else 0.0 for value in keep]))
    assert_rows(ash_s(batch(), WEIGHT, BIAS, percentile), scaled)
    assert_rows(ash_b(batch(), WEIGHT, BIAS, percentile), binary)
    assert_rows(ash_p(batch(), WEIGHT, BIAS, percentile), pruned)


@pytest.mark.parametrize("percentile", [65, 85, 95])
def test_scale_stretches_all_features_and_prunes_none(percentile: float) -> None:
    expected = []
    for row in batch().tolist():
        after = sum(row[place] for place in kept_places(row, percentile))
        expected.append(reference_energy([value * math.exp(sum(row) / after) for value in row]))
    assert_rows(scale(batch(), WEIGHT, BIAS, percentile), expected)


@pytest.mark.parametrize(
    ("channels", "percentile", "kept"),
    [(342, 95, 17), (2048, 90, 205), (1280, 90, 128), (10, 95, 1), (8, 95, 1), (8, 0, 8), (8, 100, 1), (1, 50, 1)],
)
def test_number_of_kept_channels_is_what_lies_above_the_percentile(channels: int, percentile: float, kept: int) -> None:
    assert strongest(torch.rand(2, channels), percentile).values.shape == (2, kept)


def test_ties_do_not_keep_more_channels_than_asked_for() -> None:
    equal = torch.ones(1, 40)
    weight, bias = torch.ones(1, 40), torch.zeros(1)
    assert ash_p(equal, weight, bias, 90).item() == 4
    assert ash_b(equal, weight, bias, 90).item() == 40
    assert ash_s(equal, weight, bias, 90).item() == pytest.approx(4 * math.exp(10))


def test_growth_is_capped_where_float32_would_overflow() -> None:
    equal = torch.ones(1, 4000)
    assert ash_s(equal, torch.ones(1, 4000), torch.zeros(1), 99.9).isfinite().all()
    assert scale(equal, torch.ones(1, 4000), torch.zeros(1), 99.9).isfinite().all()


def test_image_without_any_activation_gets_the_energy_of_the_biases() -> None:
    expected = reference_energy([0.0] * WEIGHT.shape[1])
    zeros = torch.zeros(1, WEIGHT.shape[1])
    for method in (ash_s, ash_b, ash_p, scale):
        assert method(zeros, WEIGHT, BIAS).item() == pytest.approx(expected, rel=1e-6)


def test_percentiles_can_be_set_by_name() -> None:
    wanted: NDArray[np.float64] = np.percentile(statistics_of().sample.numpy(), 50)
    state = fit_methods(["react"], statistics_of(), CLASSIFIER, PARAMETERS | {"react.percentile": 50})
    assert state["react.clip"].item() == pytest.approx(float(wanted))

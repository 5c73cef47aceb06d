"""p-values, thresholds and drift evidence, against slow counts, hand-computed numbers and seeded simulations."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from oodgate.conformal import STAKES, drift_evidence, drift_log_wealths, marginal_threshold, p_values, pac_threshold
from oodgate.errors import CalibrationError

SCORES = st.floats(allow_nan=False, width=32) | st.integers(-3, 3).map(float)  # the integers make ties


def test_p_values_of_a_hand_computed_example() -> None:
    calibration = np.array([1.0, 2.0, 2.0, 3.0])
    found = p_values([0.5, 1.0, 1.5, 2.0, 3.0, 9.0], calibration)
    np.testing.assert_array_equal(found, np.array([1, 2, 2, 4, 5, 5]) / 5)


@given(st.lists(SCORES, min_size=1, max_size=30), st.lists(SCORES, max_size=10))
def test_p_values_equal_a_slow_count(calibration: list[float], scores: list[float]) -> None:
    found = p_values(scores, np.sort(np.array(calibration)))
    expected = [(1 + sum(known <= score for known in calibration)) / (len(calibration) + 1) for score in scores]
    assert found.tolist() == expected


@given(st.lists(SCORES, min_size=1, max_size=30), SCORES, SCORES)
def test_a_higher_score_never_has_a_lower_p_value(calibration: list[float], one: float, other: float) -> None:
    low, high = p_values([min(one, other), max(one, other)], np.sort(np.array(calibration)))
    assert 1 / (len(calibration) + 1) <= low <= high <= 1


@pytest.mark.parametrize("ties", [False, True])
def test_p_values_are_super_uniform_on_average_over_calibration_sets(ties: bool) -> None:
    noise, trials = np.random.default_rng(0), 20_000
    draws = noise.normal(size=(trials, 40))
    draws = np.round(draws) if ties else draws
    calibration, fresh = np.sort(draws[:, 1:], 1), draws[:, 0]
    found = np.array([p_values(score, known) for score, known in zip(fresh, calibration, strict=True)])
    for level in (0.025, 0.05, 0.1, 0.25, 0.5, 0.9):
        share = (found <= level).mean()
        assert share <= level + 4 * math.sqrt(level * (1 - level) / trials)
        if not ties:  # without ties p-values are uniform on multiples of 1/40, and each level is one
            assert share >= level - 4 * math.sqrt(level * (1 - level) / trials)


@pytest.mark.parametrize(("images", "rank"), [(19, 1), (20, 1), (38, 1), (39, 2), (99, 5), (1000, 50), (9999, 500)])
def test_marginal_threshold_is_the_lowest_five_per_cent(images: int, rank: int) -> None:
    found = marginal_threshold(np.arange(images) * 2.0, 0.05)
    assert (found.rank, found.value) == (rank, 2.0 * (rank - 1))


@pytest.mark.parametrize(("images", "rank"), [(59, 1), (1000, 39), (5000, 225), (10_000, 464)])
def test_pac_threshold_has_the_tabulated_rank(images: int, rank: int) -> None:
    found = pac_threshold(np.arange(images) * 2.0, 0.05, 0.05)
    assert (found.rank, found.value) == (rank, 2.0 * (rank - 1))


@given(st.integers(1, 3000), st.floats(0.001, 0.5), st.floats(1e-6, 0.5))
def test_pac_rank_is_the_largest_that_the_binomial_allows(images: int, alpha: float, delta: float) -> None:
    calibration = np.arange(images, dtype=float)
    try:
        rank = pac_threshold(calibration, alpha, delta).rank
    except CalibrationError:
        rank = 0
    if rank:
        assert binom.cdf(rank - 1, images, alpha) <= delta * (1 + 1e-9)
    if rank < images:
        assert binom.cdf(rank, images, alpha) > delta * (1 - 1e-9)


@given(st.integers(20, 2000), st.sampled_from([0.05, 0.1, 0.2, 0.3]))
def test_pac_threshold_never_rejects_more_than_the_marginal_one(images: int, alpha: float) -> None:
    calibration = np.arange(images, dtype=float)
    if images >= 60:
        assert pac_threshold(calibration, alpha, 0.05).rank <= marginal_threshold(calibration, alpha).rank


@given(st.integers(1, 400), st.sampled_from([0.01, 0.05, 0.1, 0.25, 0.3, 0.5]))
def test_marginal_threshold_rejects_at_most_alpha(images: int, alpha: float) -> None:
    try:
        rank = marginal_threshold(np.arange(images, dtype=float), alpha).rank
    except CalibrationError:
        rank = 0
    assert rank / (images + 1) <= alpha + 1e-9
    assert (rank + 1) / (images + 1) > alpha


@pytest.mark.parametrize("alpha", [0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.3, 0.5])
def test_marginal_threshold_names_the_images_that_it_needs(alpha: float) -> None:
    needed = math.ceil(1 / alpha) - 1
    assert marginal_threshold(np.arange(needed, dtype=float), alpha).rank == 1
    with pytest.raises(CalibrationError, match=rf"^{needed - 1} cal.* at least {needed} images; give more"):
        marginal_threshold(np.arange(needed - 1, dtype=float), alpha)


@pytest.mark.parametrize(("alpha", "delta", "needed"), [(0.05, 0.05, 59), (0.01, 0.05, 299), (0.1, 0.01, 44)])
def test_pac_threshold_names_the_images_that_it_needs(alpha: float, delta: float, needed: int) -> None:
    assert pac_threshold(np.arange(needed, dtype=float), alpha, delta).rank == 1
    with pytest.raises(CalibrationError, match=rf"^{needed - 1} cal.* at least {needed} images; give more"):
        pac_threshold(np.arange(needed - 1, dtype=float), alpha, delta)


def test_no_calibration_images_are_too_few() -> None:
    with pytest.raises(CalibrationError, match=r"^0 calibration images"):
        pac_threshold(np.array([]), 0.05, 0.05)
    with pytest.raises(CalibrationError, match=r"^0 calibration images"):
        marginal_threshold(np.array([]), 0.05)


def true_rejection_rates(rank: int, images: int, trials: int) -> np.ndarray:
    """Rejection rates of thresholds of one rank, each over its own calibration set of uniform scores."""
    sets = np.random.default_rng(1).random((trials, images), dtype=np.float32)
    return np.partition(sets, rank - 1, 1)[:, rank - 1]  # a uniform score lies below t with probability t


def test_pac_guarantee_holds_in_the_promised_share_of_calibration_sets() -> None:
    images, trials, alpha, delta = 500, 8000, 0.1, 0.1
    rank = pac_threshold(np.arange(images, dtype=float), alpha, delta).rank
    slack = 4 * math.sqrt(delta * (1 - delta) / trials)
    assert (true_rejection_rates(rank, images, trials) > alpha).mean() <= delta + slack
    assert (true_rejection_rates(rank + 3, images, trials) > alpha).mean() > delta + slack  # three ranks more break it


def test_marginal_guarantee_holds_on_average() -> None:
    images, trials, alpha = 500, 8000, 0.1
    rank = marginal_threshold(np.arange(images, dtype=float), alpha).rank
    assert true_rejection_rates(rank, images, trials).mean() == pytest.approx(rank / (images + 1), abs=1e-3)
    assert rank / (images + 1) <= alpha


def evidence_of(flags: list[bool], alpha: float) -> float:
    log_wealths = np.zeros(len(STAKES))
    for flag in flags:
        log_wealths = drift_log_wealths(log_wealths, flag, alpha)
    return drift_evidence(log_wealths)


def test_no_decisions_are_no_evidence() -> None:
    assert evidence_of([], 0.05) == pytest.approx(0, abs=1e-12)


def test_evidence_of_one_rejection_is_hand_computed() -> None:
    # Stakes .0125 .025 .05 .1 .2 .4 at alpha .05 win 19 stakes each: the mean wealth is 1 + 19 * .7875 / 6.
    assert evidence_of([True], 0.05) == pytest.approx(math.log10(1 + 19 * 0.7875 / 6), rel=1e-12)


def test_evidence_of_one_acceptance_is_hand_computed() -> None:
    assert evidence_of([False], 0.05) == pytest.approx(math.log10(1 - 0.7875 / 6), rel=1e-12)


@given(st.lists(st.booleans(), max_size=40), st.sampled_from([0.01, 0.05, 0.2]))
def test_evidence_equals_the_plain_product(flags: list[bool], alpha: float) -> None:
    wealths = [math.prod(1 + stake * (flag / alpha - 1) for flag in flags) for stake in STAKES]
    assert evidence_of(flags, alpha) == pytest.approx(math.log10(sum(wealths) / len(wealths)), abs=1e-9)


def test_evidence_does_not_depend_on_the_order_of_the_flags() -> None:
    flags = [True] * 5 + [False] * 50
    assert evidence_of(flags, 0.05) == pytest.approx(evidence_of(flags[::-1], 0.05), abs=1e-9)


def alarm_shares(reject_rate: np.ndarray | float, alpha: float, level: float, streams: int, length: int) -> float:
    """Share of streams whose evidence ever passes log10(1 / level)."""
    flags = np.random.default_rng(2).random((length, streams)) < reject_rate
    log_wealths, highest = np.zeros((streams, len(STAKES))), np.full(streams, -np.inf)
    steps = {flag: drift_log_wealths(np.zeros(len(STAKES)), flag, alpha) for flag in (False, True)}
    for flag in flags:
        log_wealths += np.where(flag[:, None], steps[True], steps[False])
        peak = log_wealths.max(1)
        mean = np.log(np.exp(log_wealths - peak[:, None]).mean(1)) + peak
        highest = np.maximum(highest, mean / math.log(10))
    return float((highest >= -math.log10(level)).mean())


def test_clean_streams_alarm_at_most_at_the_nominal_rate() -> None:
    streams, level = 2000, 0.05
    share = alarm_shares(0.05, 0.05, level, streams, 2000)
    assert 0 < share <= level + 3 * math.sqrt(level * (1 - level) / streams)


def test_streams_under_pac_thresholds_alarm_at_most_at_the_nominal_rate() -> None:
    images, streams, level = 1000, 2000, 0.05
    rank = pac_threshold(np.arange(images, dtype=float), 0.05, 0.05).rank
    rates = np.random.default_rng(3).beta(rank, images + 1 - rank, streams)  # the true rate of a k-th lowest score
    assert alarm_shares(rates, 0.05, level, streams, 2000) <= level + 3 * math.sqrt(level * (1 - level) / streams)


def test_doubled_reject_rate_alarms() -> None:
    assert alarm_shares(0.1, 0.05, 0.01, 500, 2000) >= 0.99

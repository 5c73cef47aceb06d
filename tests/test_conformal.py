"""p-values, thresholds and drift evidence, against slow counts, hand-computed numbers and seeded simulations."""

import math
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binom, norm

from bets import ManyBets
from oodgate.conformal import (
    BLOCK,
    OTHER,
    STAKES,
    DriftBets,
    class_alphas,
    marginal_threshold,
    p_values,
    pac_threshold,
    prior_left,
)
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


def fed(flags: Iterable[bool], alpha: float) -> DriftBets:
    bets = DriftBets(alpha)
    for flag in flags:
        bets.update(bool(flag))
    return bets


def plain_wealths(flags: list[bool], alpha: float) -> list[float]:
    """Mean over the stakes of the products from every image on, the last of none."""
    factors = np.array([[1 + stake * (flag / alpha - 1) for stake in STAKES] for flag in flags]).reshape(
        -1, len(STAKES)
    )
    return [float(factors[start:].prod(0).mean()) for start in range(len(flags) + 1)]


def test_no_decisions_are_no_evidence() -> None:
    bets = DriftBets(0.05)
    assert (bets.long(), bets.short(), bets.both()) == (0, 0, 0)


def test_evidence_of_one_decision_is_hand_computed() -> None:
    # Stakes .0125 .025 .05 .1 .2 .4, together .7875, win 19 stakes at alpha .05; 1 - 1 / sqrt(2) of it starts at once.
    for flag, mean in ((True, 1 + 19 * 0.7875 / 6), (False, 1 - 0.7875 / 6)):
        bets, left = fed([flag], 0.05), 1 / math.sqrt(2)
        assert bets.long() == pytest.approx(math.log10(mean), rel=1e-12)
        assert bets.short() == pytest.approx(math.log10((1 - left) * mean + left), rel=1e-12)
        assert bets.both() == pytest.approx(math.log10((10 ** bets.long() + 10 ** bets.short()) / 2), rel=1e-12)


@given(st.lists(st.booleans(), max_size=40), st.sampled_from([0.01, 0.05, 0.2]))
def test_long_evidence_equals_the_plain_product(flags: list[bool], alpha: float) -> None:
    assert fed(flags, alpha).long() == pytest.approx(math.log10(plain_wealths(flags, alpha)[0]), abs=1e-9)


@pytest.mark.parametrize("images", [BLOCK - 1, BLOCK, BLOCK + 1, 4 * BLOCK + 7])
def test_short_evidence_equals_the_plain_mixture_over_starting_times(images: int) -> None:
    flags = (np.random.default_rng(0).random(images) < 0.08).tolist()
    wealths, starts = plain_wealths(flags, 0.05), range(0, images, BLOCK)
    mixture = sum((prior_left(k) - prior_left(k + 1)) * wealths[start] for k, start in enumerate(starts))
    found = fed(flags, 0.05).short()
    assert found == pytest.approx(math.log10(mixture + prior_left(len(starts))), rel=1e-9)


def test_long_evidence_does_not_depend_on_the_order_of_the_flags() -> None:
    flags = [True] * 5 + [False] * 50
    assert fed(flags, 0.05).long() == pytest.approx(fed(flags[::-1], 0.05).long(), abs=1e-9)


@pytest.mark.parametrize("flag", [True, False])
def test_evidence_of_a_long_uniform_stream_stays_finite(flag: bool) -> None:
    bets = fed([flag] * 20_000, 0.001)
    assert all(math.isfinite(evidence) for evidence in (bets.long(), bets.short(), bets.both()))
    assert all(math.isfinite(wealth) for wealth in bets.recent)


def test_short_evidence_survives_any_clean_history() -> None:
    assert 10 ** fed([False] * 20_000, 0.05).short() >= prior_left(20_000 // BLOCK)


def test_bets_go_on_from_where_they_were() -> None:
    flags = (np.random.default_rng(0).random(3 * BLOCK) < 0.1).tolist()
    for cut in (0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 100):
        first = fed(flags[:cut], 0.05)
        second = DriftBets(0.05, first.images, first.rejected, first.recent)
        for flag in flags[cut:]:
            second.update(flag)
        whole = fed(flags, 0.05)
        assert (second.long(), second.short(), second.recent) == (whole.long(), whole.short(), whole.recent)


def test_the_simulated_bets_are_the_bets() -> None:
    alphas = np.array([0.01, 0.05, 0.2])
    flags = np.random.default_rng(0).random((3 * BLOCK, 3)) < 1.5 * alphas
    many = ManyBets(alphas)
    for row in flags:
        many.update(np.arange(3), row)
    ones = [fed(flags[:, column], alpha) for column, alpha in enumerate(alphas.tolist())]
    np.testing.assert_allclose(np.log10(many.long()), [bets.long() for bets in ones], atol=1e-9)
    np.testing.assert_allclose(np.log10(many.short()), [bets.short() for bets in ones], atol=1e-9)
    np.testing.assert_allclose(np.log10(many.both()), [bets.both() for bets in ones], atol=1e-9)


def highest_wealths(rates: np.ndarray | float, streams: int, images: int) -> tuple[np.ndarray, np.ndarray]:
    """The largest wealth that each stream ever reaches, long and short, at alpha .05."""
    noise, many = np.random.default_rng(2), ManyBets(np.full(streams, 0.05))
    long, short = np.zeros(streams), np.zeros(streams)
    for _ in range(images):
        many.update(slice(None), noise.random(streams) < rates)
        np.maximum(long, many.long(), out=long)
        np.maximum(short, many.short(), out=short)
    return long, short


def test_clean_streams_alarm_at_most_at_the_nominal_rate() -> None:
    long, short = highest_wealths(0.05, streams=1000, images=50_000)
    for level in (0.01, 0.05):
        share = ((long >= 2 / level) | (short >= 2 / level)).mean()  # two horizons share the level
        assert share <= level
    assert (long >= 20).mean() > 0.005 < (short >= 20).mean()  # neither horizon is silent for want of sense


def test_streams_under_pac_thresholds_alarm_at_most_at_the_nominal_rate() -> None:
    images, streams, level = 1000, 1000, 0.05
    rank = pac_threshold(np.arange(images, dtype=float), 0.05, 0.05).rank
    rates = np.random.default_rng(3).beta(rank, images + 1 - rank, streams)  # the true rate of a k-th lowest score
    long, short = highest_wealths(rates, streams, 5000)
    assert ((long >= 2 / level) | (short >= 2 / level)).mean() <= level


def delays(clean: int, streams: int, images: int) -> dict[str, np.ndarray]:
    """Images from a doubling of the reject rate to the alarm at level .01, by horizon; `images` where none came."""
    noise, many = np.random.default_rng(4), ManyBets(np.full(streams, 0.05))
    found = {name: np.full(streams, float(images)) for name in ("long", "short")}
    for image in range(clean + images):
        many.update(slice(None), noise.random(streams) < (0.05 if image < clean else 0.1))
        if image >= clean:
            for name, wealths in (("long", many.long()), ("short", many.short())):
                found[name][(wealths >= 200) & (found[name] == images)] = image - clean + 1
    return found


def test_a_doubled_reject_rate_from_the_start_alarms_within_some_hundred_images() -> None:
    found = delays(0, streams=200, images=2500)
    assert np.median(found["long"]) <= 500
    assert np.median(found["short"]) <= 600
    assert np.minimum(found["long"], found["short"]).max() < 2500


def test_after_a_long_clean_history_the_short_horizon_alarms_within_a_thousand_images() -> None:
    found = delays(20_000, streams=200, images=2500)
    assert np.median(found["short"]) <= 1000
    assert np.median(found["long"]) > np.median(found["short"])
    assert (found["short"] < 2500).mean() >= 0.97


def test_bounds_of_classes_are_those_of_clopper_and_pearson() -> None:
    predicted = np.repeat([0, 1], [200, 400])
    rejected = np.zeros(600, dtype=bool)
    rejected[200:220] = True
    found = class_alphas(rejected, predicted, 2, 0.1)
    assert found == {0: pytest.approx(1 - 0.05 ** (1 / 200)), 1: pytest.approx(beta.ppf(0.95, 21, 380))}
    assert binom.cdf(20, 400, found[1]) == pytest.approx(0.05)


def test_classes_with_few_images_share_a_bound() -> None:
    predicted = np.repeat([0, 1, 3], [199, 200, 1])
    rejected = np.isin(np.arange(400), [0, 1, 399])
    found = class_alphas(rejected, predicted, 5, 0.1)
    assert found == {1: pytest.approx(beta.ppf(0.95, 1, 200)), OTHER: pytest.approx(beta.ppf(0.95, 4, 197))}


def test_classes_with_few_images_together_have_no_bound() -> None:
    predicted = np.repeat([0, 1], [199, 200])
    assert set(class_alphas(np.zeros(399, dtype=bool), predicted, 3, 0.1)) == {1}
    assert class_alphas(np.zeros(3, dtype=bool), np.array([0, 1, 2]), 3, 0.1) == {}


def test_a_class_that_is_always_rejected_is_bounded_by_one() -> None:
    assert class_alphas(np.ones(200, dtype=bool), np.zeros(200, dtype=np.int64), 1, 0.1) == {0: 1.0}


def test_bounds_of_all_classes_hold_at_once_under_a_threshold_from_the_same_images() -> None:
    noise, means, sets, delta = np.random.default_rng(5), np.array([0.0, 0.5, 1.0, 2.0, 1.0]), 1500, 0.1
    chances, few = [0.3, 0.3, 0.3, 0.05, 0.05], [3, 4]  # the last two have too few images and share a bound
    missed = 0
    for _ in range(sets):
        predicted = noise.choice(5, 2000, p=chances)
        scores = noise.normal(means[predicted])
        threshold = pac_threshold(np.sort(scores), 0.05, 0.05).value
        bounds, rates = class_alphas(scores < threshold, predicted, 5, delta), norm.cdf(threshold - means)
        true = {0: rates[0], 1: rates[1], 2: rates[2], OTHER: rates[few].mean()}
        for group in set(bounds) - {0, 1, 2, OTHER}:
            true[group] = rates[group]
        missed += any(rate > bounds.get(group, 1) for group, rate in true.items())
    assert missed / sets <= delta

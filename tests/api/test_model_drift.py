"""The rate against which the drift alarm bets."""

import numpy as np
import pytest
from scipy.stats import beta

from oodgate.api.model_drift import certain_rate
from oodgate.bundle import Guarantee
from oodgate.conformal import DriftBets, marginal_threshold


def guarantee(kind: str, images: int, rank: int) -> Guarantee:
    return Guarantee(kind=kind, alpha=0.05, delta=0.05 if kind == "pac" else None, images=images, rank=rank)


def test_a_pac_threshold_keeps_its_alpha() -> None:
    assert certain_rate(guarantee("pac", 1000, 39)) == 0.05


@pytest.mark.parametrize(("images", "rank"), [(19, 1), (500, 25), (10_000, 500)])
def test_a_marginal_threshold_keeps_what_19_of_20_calibrations_keep(images: int, rank: int) -> None:
    # The rejection rate of the k-th lowest of n scores is Beta(k, n - k + 1).
    found = certain_rate(guarantee("marginal", images, rank))
    assert beta.cdf(found, rank, images - rank + 1) == pytest.approx(0.95)
    assert found > 0.05


def test_a_marginal_threshold_raises_no_alarm_without_drift() -> None:
    def alarms(seed: int) -> tuple[bool, bool]:
        random = np.random.default_rng(seed)
        threshold = marginal_threshold(np.sort(random.random(500)), 0.05)
        bets = [DriftBets(rate) for rate in (0.05, certain_rate(guarantee("marginal", 500, threshold.rank)))]
        reached = [False, False]
        for rejected in (random.random(20_000) < threshold.value).tolist():
            for index, bet in enumerate(bets):
                bet.update(rejected)
                reached[index] |= max(bet.recent) > 1000 and bet.both() >= 2
        return reached[0], reached[1]

    against_alpha, against_certain = np.sum([alarms(seed) for seed in range(20)], axis=0)
    assert against_alpha >= 2
    assert against_certain <= 1

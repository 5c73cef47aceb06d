"""p-values, thresholds with a guarantee, bounds of classes, and the drift evidence: numbers from numbers.

Scores are higher for in-distribution images throughout; `alpha` is the target share of in-distribution images
that are rejected, and an image is rejected when its score lies below the threshold.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr, betaincinv

from oodgate.errors import CalibrationError

STAKES = (0.0125, 0.025, 0.05, 0.1, 0.2, 0.4)
"""What each bet of the drift evidence loses, as a share of its wealth, when an image is accepted."""

BLOCK = 250
"""Images between two times at which a change of the reject rate is taken to begin."""

CLASS_IMAGES = 200
"""Calibration images that a bound of a class's own rejection rate needs."""

OTHER = -1
"""The group of all classes that have no bound of their own."""

_MOST_WEALTH = 1e250  # far from overflow; the wealth above it is given away, which keeps the supermartingale
_LOG10_E = math.log10(math.e)


@dataclass(frozen=True)
class Threshold:
    """A threshold and the rank of the calibration score that it is (1 = lowest)."""

    value: float
    rank: int


def p_values(scores: ArrayLike, calibration: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probability, for an image of the calibration's distribution, of a score this low; one for each score.

    (1 + #{calibration scores <= score}) / (n + 1): valid in finite samples, ties included. `calibration` is sorted
    ascending. Source: Bates et al. 2023, "Testing for outliers with conformal p-values", eq. 2.
    """
    below = np.searchsorted(calibration, np.asarray(scores, dtype=np.float64), side="right")
    return (1 + below) / (len(calibration) + 1)


def marginal_threshold(calibration: NDArray[np.float64], alpha: float) -> Threshold:
    """Threshold whose rejection rate is at most alpha on average over calibration sets.

    The k-th lowest calibration score, k = floor((n + 1) alpha). Raises CalibrationError where k = 0.
    """
    rank = int(np.floor((len(calibration) + 1) * alpha + 1e-9))
    return _at_rank(calibration, rank, f"alpha {alpha:g} needs at least {int(np.ceil(1 / alpha)) - 1} images")


def pac_threshold(calibration: NDArray[np.float64], alpha: float, delta: float) -> Threshold:
    """Threshold whose rejection rate is at most alpha with probability at least 1 - delta.

    The k-th lowest calibration score with the largest k for which BinomCDF(k - 1; n, alpha) <= delta. Raises
    CalibrationError where not even k = 1 holds. Source: Vovk 2012, "Conditional validity of inductive conformal
    predictors", prop. 2a.
    """
    ranks = np.arange(1, len(calibration) + 1)
    holds = bdtr(ranks - 1, len(calibration), alpha) <= delta
    needed = int(np.ceil(np.log(delta) / np.log1p(-alpha)))
    return _at_rank(
        calibration, int(holds.sum()), f"alpha {alpha:g} with delta {delta:g} needs at least {needed} images"
    )


def class_alphas(
    rejected: NDArray[np.bool_], predicted: NDArray[np.int64], classes: int, delta: float
) -> dict[int, float]:
    """Upper bounds of the rejection rate within each predicted class, all of them valid at once but for delta.

    `rejected` and `predicted` (N,) are of the calibration images, `classes` is the number of classes. A class with at
    least CLASS_IMAGES images has a bound of its own under its index; the others share one under OTHER where they
    have as many together. Each is a `rate_bound`, delta divided among them.
    """
    images = np.bincount(predicted, minlength=classes)
    refused = np.bincount(predicted[rejected], minlength=classes)
    own = images >= CLASS_IMAGES
    counts = {int(index): (int(refused[index]), int(images[index])) for index in np.flatnonzero(own)}
    if images[~own].sum() >= CLASS_IMAGES:
        counts[OTHER] = (int(refused[~own].sum()), int(images[~own].sum()))
    return {group: rate_bound(*count, delta / len(counts)) for group, count in counts.items()}


def prior_left(starts: int) -> float:
    """Prior probability that a change begins later than at the first so many starting times."""
    return 1 / math.sqrt(1 + starts)


class DriftBets:
    """The wealth of bets that images are rejected with a probability above alpha, one bet for each stake.

    Each image multiplies the wealth of a bet that has started by 1 + stake (flag / alpha - 1). While images are
    rejected with probability at most alpha, whatever came before them, each wealth is a supermartingale that starts
    at 1, and so is every mixture of wealths fixed in advance: it ever reaches 1 / a with probability at most a.
    Evidence is log10 of such a mixture: over the stakes, and in `short` also over the time at which the bet starts,
    every BLOCK images with the weight prior_left(k - 1) - prior_left(k) for the k-th time; what has not started yet
    is kept in cash. Source: Shin, Ramdas and Rinaldo 2022, "E-detectors".
    """

    __slots__ = ("_cash", "_factors", "_log_factors", "images", "recent", "rejected")

    def __init__(self, alpha: float, images: int = 0, rejected: int = 0, recent: Sequence[float] | None = None) -> None:
        """The last three continue bets that had come this far."""
        self.images, self.rejected = images, rejected
        self.recent = list(recent or [0.0] * len(STAKES))
        self._cash = prior_left(-(-images // BLOCK))
        factors = [[1 - stake, 1 + stake * (1 / alpha - 1)] for stake in STAKES]
        self._factors = tuple(zip(*factors, strict=True))
        self._log_factors = [(math.log(accepted), math.log(refused)) for accepted, refused in factors]

    def update(self, rejected: bool) -> None:
        """Take in one decision."""
        if self.images % BLOCK == 0:
            self._start_bets()
        self.images += 1
        self.rejected += rejected
        self.recent = [wealth * factor for wealth, factor in zip(self.recent, self._factors[rejected], strict=True)]
        if max(self.recent) > _MOST_WEALTH:
            self.recent = [min(wealth, _MOST_WEALTH) for wealth in self.recent]

    def long(self) -> float:
        """Evidence that images have been rejected too often since the first one."""
        accepted = self.images - self.rejected
        logs = [accepted * kept + self.rejected * refused for kept, refused in self._log_factors]
        highest = max(logs)
        return (highest + math.log(sum(math.exp(log - highest) for log in logs) / len(logs))) * _LOG10_E

    def short(self) -> float:
        """Evidence that images are rejected too often since some time, which may be recent."""
        return math.log10(sum(self.recent) / len(STAKES) + self._cash)

    def both(self) -> float:
        """Evidence of either kind: log10 of the mean of the two wealths."""
        lower, higher = sorted((self.long(), self.short()))
        return higher + math.log10((1 + 10 ** (lower - higher)) / 2)

    def _start_bets(self) -> None:
        left = prior_left(self.images // BLOCK + 1)
        self.recent = [wealth + self._cash - left for wealth in self.recent]
        self._cash = left


def rate_bound(rejected: int, images: int, delta: float) -> float:
    """Upper bound of the rejection rate, with probability 1 - delta, where so many of the images were rejected.

    Source: Clopper and Pearson 1934, one-sided.
    """
    return 1.0 if rejected == images else float(betaincinv(rejected + 1, images - rejected, 1 - delta))


def _at_rank(calibration: NDArray[np.float64], rank: int, needed: str) -> Threshold:
    if rank < 1:
        raise CalibrationError(f"{len(calibration)} calibration images are too few: {needed}; give more images")
    return Threshold(float(calibration[rank - 1]), rank)

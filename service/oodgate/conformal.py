"""p-values, thresholds with a guarantee, and the drift evidence: pure functions of numbers.

Scores are higher for in-distribution images throughout; `alpha` is the target share of in-distribution images
that are rejected, and an image is rejected when its score lies below the threshold.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr

from oodgate.errors import CalibrationError

STAKES = np.array([0.0125, 0.025, 0.05, 0.1, 0.2, 0.4])
"""What each bet of the drift evidence loses, as a share of its wealth, when an image is accepted."""


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


def drift_log_wealths(log_wealths: NDArray[np.float64], rejected: bool, alpha: float) -> NDArray[np.float64]:
    """Advance the log wealth of every bet by one decision.

    Each bet multiplies its wealth by 1 + stake (flag / alpha - 1); under a PAC threshold the flags' mean is at most
    alpha, so each wealth is a supermartingale. Source: Shin, Ramdas and Rinaldo 2022, "E-detectors".
    """
    return log_wealths + np.log1p(STAKES * (float(rejected) / alpha - 1))


def drift_evidence(log_wealths: NDArray[np.float64]) -> float:
    """log10 of the mean wealth; it passes log10(1 / a) with probability at most a as long as nothing drifts."""
    return float((np.logaddexp.reduce(log_wealths) - np.log(len(log_wealths))) / np.log(10))


def _at_rank(calibration: NDArray[np.float64], rank: int, needed: str) -> Threshold:
    if rank < 1:
        raise CalibrationError(f"{len(calibration)} calibration images are too few: {needed}; give more images")
    return Threshold(float(calibration[rank - 1]), rank)

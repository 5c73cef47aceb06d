"""Mahalanobis: how far the direction of the features is from the nearest class, in units of the classes' spread."""

import torch
from torch import Tensor

from oodgate.scores.statistics import Statistics

CENTRE, WHITENING, MEANS = "mahalanobis.centre", "mahalanobis.whitening", "mahalanobis.means"

_TINY = 1e-12


def mahalanobis(unit_features: Tensor, centre: Tensor, whitening: Tensor, means: Tensor) -> Tensor:
    """Minus the smallest squared Mahalanobis distance to a class mean; returns (N,), at most 0.

    `unit_features` (N, C) have length 1; `centre` (C,), `whitening` (C, C) and `means` (K', C) as fitted, for the K'
    classes that have training images. Source: Lee et al. 2018, "A simple unified framework for detecting
    out-of-distribution samples", eq. 2, on normalised features as in Mueller and Hein 2025, "Mahalanobis++".
    """
    whitened = (unit_features - centre) @ whitening  # (N, C), in which the shared covariance is the identity
    nearest = torch.addmm(means.square().sum(1), whitened, means.T, alpha=-2).argmin(1)  # (N,)
    # The difference of vectors keeps the digits that the matrix product cancels where the class is close.
    return -(whitened - means[nearest]).square().sum(1)


def mahalanobis_positive(score: Tensor) -> Tensor:
    """1 / (1 + d^2), in (0, 1]."""
    return 1 / (1 - score)


def fit_mahalanobis(statistics: Statistics, ridge: float = 1e-6) -> dict[str, Tensor]:
    """Class means and shared covariance of normalised features of training images.

    Gives their mean "mahalanobis.centre" (C,), a matrix in whose coordinates the covariance is the identity,
    "mahalanobis.whitening" (C, C), and the class means in these coordinates, "mahalanobis.means" (K', C). `ridge`, in
    units of the mean variance, is added to every variance: some channels are dead.
    """
    present = statistics.class_counts > 0
    counts = statistics.class_counts[present].double()[:, None]  # (K', 1)
    means = statistics.class_sums[present] / counts  # (K', C)
    covariance = (statistics.second_moment - means.T @ (counts * means)) / statistics.count
    variances, axes = torch.linalg.eigh(covariance)
    variances = variances.clamp_min(0)
    whitening = axes / (variances + ridge * variances.mean() + _TINY).sqrt()
    centre = statistics.class_sums.sum(0) / statistics.count
    return {
        CENTRE: centre.float(),
        WHITENING: whitening.float(),
        MEANS: ((means - centre) @ whitening).float(),
    }

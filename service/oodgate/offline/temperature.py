"""The temperature of the probabilities, so that a class called with 80 % is right four times in five."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

RANGE = (0.05, 20.0)
"""Temperatures that are considered."""

_BINS = 15
_SPREAD = np.log(2)  # of the logarithm of temperatures before any image is seen


@dataclass(frozen=True)
class Temperature:
    """What divides the logits, and the expected calibration error in percent without and with it."""

    value: float
    ece_before: float
    ece_after: float


def fit_temperature(logits: NDArray[np.float32], labels: ArrayLike) -> Temperature:
    """The most probable temperature on logits (N, K) and labels (N,), which is log-normal around 1 without them.

    Without that prior few images, or all called right, would make every probability 0 or 1; a thousand images outweigh
    it. Source: "On calibration of modern neural networks" (Guo et al. 2017), sec. 4.2, but for the prior.
    """
    truth = np.asarray(labels)

    def loss(log_temperature: float) -> float:
        likelihoods = log_softmax(logits / np.exp(log_temperature), axis=1)[np.arange(len(truth)), truth]
        return float((log_temperature / _SPREAD) ** 2 / 2 - likelihoods.sum())

    best = minimize_scalar(loss, bounds=tuple(np.log(RANGE)), method="bounded")
    value = float(np.exp(best.x))
    before, after = (expected_calibration_error(logits / scale, truth) for scale in (1.0, value))
    return Temperature(value, before, after)


def expected_calibration_error(logits: NDArray[np.float32], labels: ArrayLike) -> float:
    """Mean distance between confidence and accuracy, over 15 equal bins of the confidence, in percent.

    Source: the same paper, eq. 3.
    """
    logarithms = log_softmax(logits, axis=1)
    confidence, right = np.exp(logarithms.max(1)), logarithms.argmax(1) == np.asarray(labels)
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    gaps = np.bincount(bins, weights=confidence - right, minlength=_BINS)
    return 100 * float(np.abs(gaps).sum() / len(confidence))

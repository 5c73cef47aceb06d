"""DICE: Energy with only those weights of the classifier that carry the classes on training images."""

import numpy as np
import torch
from torch import Tensor

from oodgate.scores.energy import feature_energy
from oodgate.scores.statistics import Statistics

MASK = "dice.mask"


def dice(features: Tensor, weight: Tensor, bias: Tensor, mask: Tensor) -> Tensor:
    """logsumexp((W mask) f + b); returns (N,), higher is more in-distribution.

    `features` (N, C), `weight` (K, C), `bias` (K,), `mask` (K, C) of booleans as fitted.
    Source: Sun and Li 2022, "DICE: leveraging sparsification for out-of-distribution detection", sec. 3.
    """
    return feature_energy(features, weight * mask, bias)


def fit_dice(statistics: Statistics, weight: Tensor, percentile: float = 90) -> dict[str, Tensor]:
    """Weights whose mean contribution on training images lies above the `percentile` of all: "dice.mask" (K, C).

    Strictly above, so that a table of equal contributions keeps none.
    """
    contributions = statistics.mean * weight.double()  # (K, C)
    limit = np.percentile(contributions.numpy(), percentile)
    return {MASK: torch.gt(contributions, float(limit))}

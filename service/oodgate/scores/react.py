"""ReAct: Energy after cutting the features off at a height that training images rarely reach."""

import numpy as np
import torch
from torch import Tensor

from oodgate.scores.energy import feature_energy
from oodgate.scores.statistics import Statistics

CLIP = "react.clip"


def react(features: Tensor, weight: Tensor, bias: Tensor, clip: Tensor) -> Tensor:
    """logsumexp(W min(f, clip) + b); returns (N,), higher is more in-distribution.

    `features` (N, C), `weight` (K, C), `bias` (K,), `clip` () as fitted.
    Source: Sun et al. 2021, "ReAct: out-of-distribution detection with rectified activations", sec. 3.
    """
    return feature_energy(torch.minimum(features, clip), weight, bias)


def fit_react(statistics: Statistics, percentile: float = 90) -> dict[str, Tensor]:
    """The `percentile` of all feature values of the sample of training images: "react.clip" ()."""
    height = np.percentile(statistics.sample.numpy(), percentile)
    return {CLIP: torch.tensor(height, dtype=torch.float32)}

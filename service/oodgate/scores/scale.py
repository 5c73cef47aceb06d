"""SCALE: Energy after stretching all features by how little of them lies above the percentile."""

from torch import Tensor

from oodgate.scores.ash import growth, strongest
from oodgate.scores.energy import feature_energy


def scale(features: Tensor, weight: Tensor, bias: Tensor, percentile: float = 85) -> Tensor:
    """Energy of f exp(s1 / s2), s1 the sum of f and s2 that of its values above the percentile; nothing is pruned.

    `features` (N, C) non-negative, `weight` (K, C), `bias` (K,); returns (N,), higher is more in-distribution.
    Source: Xu et al. 2023, "Scaling for training time and post-hoc out-of-distribution detection enhancement" (SCALE).
    """
    kept = strongest(features, percentile).values
    return feature_energy(features * growth(features, kept), weight, bias)

"""ASH: Energy after keeping only an image's strongest features. Three variants: scale (S), binarise (B), prune (P).

Source: Djurisic et al. 2023, "Extremely simple activation shaping for out-of-distribution detection", algorithms 1-3.
Features are pooled ones, and each image is pruned by itself. Features are never changed in place: other scores read
the same ones.
"""

import torch
from torch import Tensor

from oodgate.scores.energy import feature_energy

_LARGEST_EXPONENT = 50.0  # more than C / kept at the literature's settings; exp overflows float32 at 88
_TINY = 1e-30


def ash_s(features: Tensor, weight: Tensor, bias: Tensor, percentile: float = 95) -> Tensor:
    """Energy of the kept features times exp(s1 / s2), s1 and s2 the sums before and after pruning.

    `features` (N, C) non-negative, `weight` (K, C), `bias` (K,); returns (N,), higher is more in-distribution.
    """
    kept = strongest(features, percentile)
    pruned = torch.zeros_like(features).scatter(1, kept.indices, kept.values)
    return feature_energy(pruned * growth(features, kept.values), weight, bias)


def ash_b(features: Tensor, weight: Tensor, bias: Tensor, percentile: float = 95) -> Tensor:
    """Energy with every kept feature set to s1 / kept, s1 the sum before pruning; shapes as in `ash_s`."""
    kept = strongest(features, percentile)
    share = features.sum(1, keepdim=True) / kept.values.shape[1]  # (N, 1)
    binary = torch.zeros_like(features).scatter(1, kept.indices, share.expand_as(kept.values))
    return feature_energy(binary, weight, bias)


def ash_p(features: Tensor, weight: Tensor, bias: Tensor, percentile: float = 95) -> Tensor:
    """Energy of the kept features; shapes as in `ash_s`."""
    kept = strongest(features, percentile)
    pruned = torch.zeros_like(features).scatter(1, kept.indices, kept.values)
    return feature_energy(pruned, weight, bias)


def strongest(features: Tensor, percentile: float) -> torch.return_types.topk:
    """Values and indices (N, k) of the k largest features (N, C) of each row; ties are cut so that k is exact.

    k is what lies above the percentile, C - round(C percentile / 100), and at least 1.
    """
    channels = int(features.shape[1])  # which is a tensor where torch records what is done
    return features.topk(max(1, channels - round(channels * percentile / 100)), 1)


def growth(features: Tensor, kept: Tensor) -> Tensor:
    """exp(s1 / s2) with s1 the sum of features (N, C) and s2 that of the kept ones (N, k); returns (N, 1)."""
    ratio = features.sum(1, keepdim=True) / kept.sum(1, keepdim=True).clamp_min(_TINY)
    return ratio.clamp_max(_LARGEST_EXPONENT).exp()

"""Energy: the soft maximum of the logits, and of logits recomputed from shaped features."""

import torch
from torch import Tensor
from torch.nn import functional as F


def energy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """T logsumexp(logits / T) for logits (N, K); returns (N,), higher is more in-distribution.

    Source: Liu et al. 2020, "Energy-based out-of-distribution detection", eq. 4, with the sign turned.
    """
    return temperature * torch.logsumexp(logits / temperature, 1)


def feature_energy(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Energy (N,) of the logits that a classifier, weight (K, C) and bias (K,), gives features (N, C)."""
    return energy(F.linear(features, weight, bias))

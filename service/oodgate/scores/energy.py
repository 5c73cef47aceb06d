"""Energy: the soft maximum of the logits."""

import torch
from torch import Tensor


def energy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """T logsumexp(logits / T) for logits (N, K); returns (N,), higher is more in-distribution.

    Source: Liu et al. 2020, "Energy-based out-of-distribution detection", eq. 4, with the sign turned.
    """
    return temperature * torch.logsumexp(logits / temperature, 1)

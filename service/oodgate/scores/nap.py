"""Neural Activation Prior: how far a channel's peak stands out of its mean, before global pooling."""

from torch import Tensor


def nap(activation: Tensor, mean: Tensor, eps: float = 1.0) -> Tensor:
    """Mean over channels of (max / (mean + eps))^2; higher is more in-distribution.

    `activation` (N, C, h, w) is non-negative, `mean` (N, C) is its mean over h and w; returns (N,).
    Source: "Out-of-distribution detection using neural activation prior", eq. 3.
    """
    return (activation.amax((2, 3)) / (mean + eps)).square().mean(1)

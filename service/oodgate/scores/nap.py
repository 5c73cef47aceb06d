"""Neural Activation Prior: how far a channel's peak stands out of its mean, before global pooling.

Source of everything here: "Out-of-distribution detection using neural activation prior".
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def nap(activation: Tensor, mean: Tensor, eps: float = 1.0) -> Tensor:
    """Mean over channels of (max / (mean + eps))^2; higher is more in-distribution.

    `activation` (N, C, h, w) is non-negative, `mean` (N, C) is its mean over h and w, `eps` > 0; returns (N,).
    Source: eq. 3.
    """
    return (activation.amax((2, 3)) / (mean + eps)).square().mean(1)


def nap_variance(activation: Tensor, mean: Tensor) -> Tensor:
    """Mean over channels of the variance within a channel; shapes as in `nap`; source: sec. 6.4, "Variance"."""
    return (activation - mean[:, :, None, None]).square().mean((1, 2, 3))


def nap_unsquared(activation: Tensor, mean: Tensor, eps: float = 1.0) -> Tensor:
    """Mean over channels of max / (mean + eps); shapes as in `nap`; source: sec. 6.4, "No Square"."""
    return (activation.amax((2, 3)) / (mean + eps)).mean(1)


def nap_minus(activation: Tensor, mean: Tensor) -> Tensor:
    """Mean over channels of max - mean, not squared; shapes as in `nap`; source: sec. 6.4, "Minus"."""
    return (activation.amax((2, 3)) - mean).mean(1)


def nap_of_layers(activations: Sequence[Tensor], eps: float = 1.0) -> Tensor:
    """Product of the NAP scores of several layers of one forward, each (N, C_l, h_l, w_l); source: table 7."""
    scores = [nap(activation, activation.mean((2, 3)), eps) for activation in activations]
    return torch.stack(scores).prod(0)

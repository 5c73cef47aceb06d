"""MLS: the largest logit."""

from torch import Tensor


def mls(logits: Tensor) -> Tensor:
    """Largest of the logits (N, K); returns (N,), higher is more in-distribution.

    Source: Hendrycks et al. 2022, "Scaling out-of-distribution detection for real-world settings" (MaxLogit).
    """
    return logits.amax(1)

"""MSP: the probability of the most probable class."""

from torch import Tensor


def msp(logits: Tensor) -> Tensor:
    """Largest softmax probability of logits (N, K); returns (N,), higher is more in-distribution.

    Source: Hendrycks and Gimpel 2016, "A baseline for detecting misclassified and out-of-distribution examples".
    """
    return logits.softmax(1).amax(1)

"""The paper's combination of NAP with another score: S_other^w S_NAP^(1-w), as a sum of logarithms."""

from torch import Tensor

FLOOR = 1e-6
"""A score at or below this is clamped to it: a power of a negative number means nothing."""


def is_clamped(score: Tensor) -> Tensor:
    """True where `product` has to clamp the score."""
    return score < FLOOR


def product(other: Tensor, nap: Tensor, w: float) -> Tensor:
    """S_other^w S_NAP^(1-w) of scores (N,), each clamped to be positive first; source: the NAP paper, sec. 4.3."""
    return (w * other.clamp_min(FLOOR).log() + (1 - w) * nap.clamp_min(FLOOR).log()).exp()

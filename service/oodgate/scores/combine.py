"""Scores made of two: another method's and NAP's.

    product   S_other^w S_NAP^(1-w), the paper's
    veto      the other's, from which an unusually low NAP takes away and to which nothing adds
    p-values  the weighted logarithms of the two p-values

What a combination has to know about in-distribution images is fitted on reference images, side by side with it.
"""

import torch
from torch import Tensor

FLOOR = 1e-6
"""A score at or below this is clamped to it: a power of a negative number means nothing."""

_VETO_BELOW = -1.0
_SMALLEST_DEVIATION = 1e-6


def is_clamped(score: Tensor) -> Tensor:
    """True where `product` and `veto` have to clamp the score."""
    return score < FLOOR


def product(other: Tensor, nap: Tensor, w: float) -> Tensor:
    """S_other^w S_NAP^(1-w) of scores (N,), each clamped to be positive first; source: the NAP paper, sec. 4.3."""
    return (w * _log(other) + (1 - w) * _log(nap)).exp()


def veto(other: Tensor, nap: Tensor, w: float, means: Tensor, deviations: Tensor) -> Tensor:
    """Score w z_other + (1 - w) min(z_NAP + 1, 0), z the standardised logarithms of scores (N,), clamped first.

    `means` (2,) and `deviations` (2,) as fitted; an image whose NAP is at most one deviation low loses nothing.
    """
    z_other = (_log(other) - means[0]) / deviations[0]
    z_nap = (_log(nap) - means[1]) / deviations[1]
    return w * z_other + (1 - w) * (z_nap - _VETO_BELOW).clamp_max(0)


def fit_veto(other: Tensor, nap: Tensor) -> tuple[Tensor, Tensor]:
    """Means (2,) and standard deviations (2,) of the logarithms of reference images' scores (n,)."""
    logs = torch.stack([_log(other.double()), _log(nap.double())])
    deviations = logs.std(1, correction=0).clamp_min(_SMALLEST_DEVIATION)
    return logs.mean(1).float(), deviations.float()


def p_combination(other: Tensor, nap: Tensor, w: float, other_reference: Tensor, nap_reference: Tensor) -> Tensor:
    """Weighted logarithms of p-values, w log p_other + (1 - w) log p_NAP, for scores (N,); returns (N,), at most 0.

    The references (n,) are sorted ascending. It asks nothing of a score but its order, so nothing is clamped. The
    result is a score and not a p-value itself.
    """
    return w * _log_p(other, other_reference) + (1 - w) * _log_p(nap, nap_reference)


def _log(score: Tensor) -> Tensor:
    return score.clamp_min(FLOOR).log()


def _log_p(score: Tensor, reference: Tensor) -> Tensor:
    """Logarithm of (1 + #{reference <= score}) / (n + 1); not a number where the score is not finite."""
    below = torch.searchsorted(reference, score.contiguous(), right=True)
    p = (1 + below).to(score.dtype) / (len(reference) + 1)
    return torch.where(score.isfinite(), p.log(), torch.nan)  # searchsorted ranks NaN above everything

"""GEN: a generalised entropy of the most probable classes."""

import torch
from torch import Tensor


def gen(logits: Tensor, gamma: float = 0.1, top: int = 100) -> Tensor:
    """-sum of p^gamma (1 - p)^gamma over the `top` largest probabilities of logits (N, K); returns (N,), at most 0.

    Source: Liu et al. 2023, "GEN: pushing the limits of softmax-based out-of-distribution detection". The powers
    of 1 - p make it steep near p = 1, so 1 - p of the first class is the sum of the others, not a difference.
    """
    ordered = logits.sort(1, descending=True).values
    ordered = ordered - ordered[:, :1]
    total = ordered.logsumexp(1, keepdim=True)
    log_p = ordered[:, :top] - total  # (N, M)
    log_rest = ordered[:, 1:].logsumexp(1, keepdim=True) - total
    log_complement = torch.cat([log_rest, torch.log1p(-log_p[:, 1:].exp())], 1)  # (N, M)
    return -(gamma * (log_p + log_complement)).exp().sum(1)


def gen_positive(score: Tensor) -> Tensor:
    """1 / (1 - score), in (0, 1] and rising with the score.

    Not exp(score): with a hundred classes nearly every image's exp(score) is below any sensible floor.
    """
    return 1 / (1 - score)

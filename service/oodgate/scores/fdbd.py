"""fDBD: how far the features are from the decision boundaries, for how far they are from the training mean."""

import torch
from torch import Tensor

from oodgate.scores.forward import length
from oodgate.scores.statistics import Statistics

MEAN, INVERSE = "fdbd.mean", "fdbd.inverse_distances"

_SMALLEST_NORM = 1e-6


def fdbd(logits: Tensor, features: Tensor, mean: Tensor, inverse_distances: Tensor) -> Tensor:
    """Mean over the other classes of the distance to their boundary, by |f - mean|; returns (N,), at least 0.

    `logits` (N, K), `features` (N, C), `mean` (C,) and `inverse_distances` (K, K) as fitted; higher is more
    in-distribution. The distance to class c's boundary is (l_max - l_c) / |w_max - w_c|.
    Source: Liu and Qin 2024, "Fast decision boundary based out-of-distribution detector".
    """
    largest = logits.max(1)
    gaps = largest.values[:, None] - logits  # (N, K), 0 for the predicted class
    distance = (gaps * inverse_distances[largest.indices]).sum(1) / max(1, logits.shape[1] - 1)
    return distance / length(features - mean).clamp_min(_SMALLEST_NORM)


def fit_fdbd(statistics: Statistics, weight: Tensor) -> dict[str, Tensor]:
    """Mean feature of training images, "fdbd.mean" (C,), and 1 / |w_a - w_b|, "fdbd.inverse_distances" (K, K).

    Classes with equal weights have no boundary between them: their entry is 0, as on the diagonal.
    """
    rows = weight.double()
    distances = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
    inverse = torch.where(distances > 0, 1 / distances, 0.0)
    return {MEAN: statistics.mean.float(), INVERSE: inverse.float()}

"""KNN: how close the k-th nearest training image is, in the direction of the features."""

import torch
from torch import Tensor

from oodgate.scores.forward import length, unit
from oodgate.scores.statistics import Statistics

BANK, K = "knn.bank", "knn.k"

_CHUNK = 2**24  # distances held at a time: 64 MiB


def knn(unit_features: Tensor, bank: Tensor, k: int) -> Tensor:
    """Minus the distance to the k-th nearest row of the bank, by exact search; returns (N,), from -2 to 0.

    `unit_features` (N, C) and `bank` (m, C) have length 1; a k above m means the farthest row.
    Source: Sun et al. 2022, "Out-of-distribution detection with deep nearest neighbors", sec. 3.
    """
    rows = max(1, _CHUNK // len(bank))
    return torch.cat([_knn_of_chunk(chunk, bank, min(k, len(bank))) for chunk in unit_features.split(rows)])


def knn_positive(score: Tensor) -> Tensor:
    """1 - d^2 / 2: the cosine between an image and its k-th neighbour."""
    return 1 - score.square() / 2


def fit_knn(statistics: Statistics, k: float = 50) -> dict[str, Tensor]:
    """The sample of training images, scaled to length 1, "knn.bank" (m, C), and which neighbour counts, "knn.k" ().

    `k` is meant for all training images; where the bank is a sample of them it shrinks in proportion, to 1 at least.
    """
    bank = unit(statistics.sample)
    neighbour = max(1, round(k * len(bank) / statistics.count))
    return {BANK: bank, K: torch.tensor(neighbour)}


def _knn_of_chunk(unit_features: Tensor, bank: Tensor, k: int) -> Tensor:
    # |x|^2 is the same for all rows of the bank and does not change their order.
    distances = torch.addmm(bank.square().sum(1), unit_features, bank.T, alpha=-2)  # (n, m)
    neighbours = bank[distances.topk(k, 1, largest=False).indices[:, -1]]  # (n, C)
    # The difference of vectors keeps the digits that the matrix product cancels where the neighbour is close.
    return -length(unit_features - neighbours)

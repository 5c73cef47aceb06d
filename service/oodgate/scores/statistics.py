"""What the fitted methods need to know about training images, collected in one pass and constant memory.

All tensors are on the host.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from oodgate.errors import SetupError
from oodgate.scores.forward import unit

BANK_SIZE = 10_000


@dataclass(frozen=True)
class Statistics:
    """Statistics of the features of `count` training images."""

    count: int
    mean: Tensor  # (C,) float64
    sample: Tensor  # (m, C) float32: feature rows drawn without replacement; all rows where count <= bank_size
    class_counts: Tensor  # (K,) int64
    class_sums: Tensor  # (K, C) float64, sums of the features scaled to length 1
    second_moment: Tensor  # (C, C) float64, sum of the outer products of the features scaled to length 1


class StatisticsAccumulator:
    """Takes batches, gives `Statistics`; how the images are split into batches changes rounding errors only."""

    def __init__(self, channels: int, classes: int, bank_size: int = BANK_SIZE, seed: int = 0) -> None:
        self._count = 0
        self._sum = torch.zeros(channels, dtype=torch.float64)
        self._class_counts = torch.zeros(classes, dtype=torch.int64)
        self._class_sums = torch.zeros(classes, channels, dtype=torch.float64)
        self._second_moment = torch.zeros(channels, channels, dtype=torch.float64)
        self._reservoir = _Reservoir(channels, bank_size, seed)

    def add(self, features: Tensor, classes: Tensor) -> None:
        """Count in pooled features (n, C) and class indices (n,), int64."""
        directions = unit(features.double())
        self._count += len(features)
        self._sum += features.double().sum(0)
        self._class_counts += torch.bincount(classes, minlength=len(self._class_counts))
        self._class_sums.index_add_(0, classes, directions)
        self._second_moment.addmm_(directions.T, directions)
        self._reservoir.add(features)

    def finish(self) -> Statistics:
        """The statistics of everything added; raises SetupError where that is nothing."""
        if self._count == 0:
            raise SetupError("there are no training images to fit on; give a folder that holds some")
        return Statistics(
            count=self._count,
            mean=self._sum / self._count,
            sample=self._reservoir.rows(),
            class_counts=self._class_counts.clone(),
            class_sums=self._class_sums.clone(),
            second_moment=self._second_moment.clone(),
        )


class _Reservoir:
    """A uniform sample of rows: each row draws a key, and the rows with the smallest keys stay.

    Keys depend on a row's place in the stream alone, so the sample does not depend on the batches.
    """

    def __init__(self, channels: int, size: int, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._keys = torch.full((size,), torch.inf, dtype=torch.float64)  # inf: an empty place, the first to go
        self._rows = torch.zeros(size, channels)

    def add(self, features: Tensor) -> None:
        keys = torch.from_numpy(self._random.random(len(features)))
        size = len(self._keys)
        ranked = torch.cat([self._keys, keys]).argsort()
        leaving, entering = ranked[size:], ranked[:size]
        leaving, entering = leaving[leaving < size], entering[entering >= size] - size
        self._rows[leaving] = features[entering].float()
        self._keys[leaving] = keys[entering]

    def rows(self) -> Tensor:
        order = self._keys.argsort()
        return self._rows[order[self._keys[order] < torch.inf]]

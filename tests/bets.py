"""The drift evidence of many streams at once, step by step in numpy, to simulate its levels and delays."""

import numpy as np
from numpy.typing import NDArray

from oodgate.conformal import BLOCK, STAKES, prior_left

LONG, SHORT = slice(0, len(STAKES)), slice(len(STAKES), 2 * len(STAKES))


class ManyBets:
    """The wealths of `conformal.DriftBets`, one row a stream; the long ones are not kept as logs and may underflow."""

    def __init__(self, alphas: NDArray[np.float64]) -> None:
        stakes = np.array(STAKES * 2)
        self.images = np.zeros(len(alphas), dtype=int)
        self.cash = np.ones(len(alphas))
        self.wealths = np.zeros((len(alphas), 2 * len(STAKES)))
        self.wealths[:, LONG] = 1
        self._accepted = 1 - stakes
        self._refused = 1 + stakes * (1 / alphas[:, None] - 1)

    def update(self, rows: NDArray[np.int64] | slice, rejected: NDArray[np.bool_]) -> None:
        """Take in one decision of each of some streams."""
        images = self.images[rows]
        starting = np.arange(len(self.images))[rows][images % BLOCK == 0]
        if len(starting):
            left = np.array([prior_left(images // BLOCK + 1) for images in self.images[starting]])
            self.wealths[starting, SHORT] += (self.cash[starting] - left)[:, None]
            self.cash[starting] = left
        self.images[rows] += 1
        self.wealths[rows] *= np.where(rejected[:, None], self._refused[rows], self._accepted)

    def long(self, rows: NDArray[np.int64] | slice = slice(None)) -> NDArray[np.float64]:
        """10 ** evidence since the start."""
        return self.wealths[rows, LONG].mean(1)

    def short(self, rows: NDArray[np.int64] | slice = slice(None)) -> NDArray[np.float64]:
        """10 ** evidence since some time."""
        return self.wealths[rows, SHORT].mean(1) + self.cash[rows]

    def both(self, rows: NDArray[np.int64] | slice = slice(None)) -> NDArray[np.float64]:
        """10 ** evidence of either kind."""
        return (self.long(rows) + self.short(rows)) / 2

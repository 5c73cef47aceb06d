"""What a score may read: the answers of one forward. What several scores need of them is computed once."""

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor
from torch.linalg import vector_norm

_TINY = 1e-10


@dataclass(frozen=True)
class Forward:
    """The network's answers for a batch, float32, on the device of the forward."""

    logits: Tensor  # (N, K)
    activation: Tensor  # (N, C, h, w), ReLU'd, before global pooling

    @cached_property
    def features(self) -> Tensor:
        """The pooled activation (N, C) that the classifier reads."""
        return self.activation.mean((2, 3))

    @cached_property
    def unit_features(self) -> Tensor:
        """The features (N, C) scaled to length 1."""
        return unit(self.features)


def unit(features: Tensor) -> Tensor:
    """Rows (N, C) scaled to length 1; a row of zeros stays one."""
    return features / (length(features)[:, None] + _TINY)


def length(rows: Tensor) -> Tensor:
    """Euclidean length (N,) of rows (N, C)."""
    lengths: Tensor = vector_norm(rows, dim=1)
    return lengths

"""What a score may read: the answers of one forward."""

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor


@dataclass(frozen=True)
class Forward:
    """The network's answers for a batch, float32, on the device of the forward."""

    logits: Tensor  # (N, K)
    activation: Tensor  # (N, C, h, w), ReLU'd, before global pooling

    @cached_property
    def features(self) -> Tensor:
        """The pooled activation (N, C) that the classifier reads."""
        return self.activation.mean((2, 3))

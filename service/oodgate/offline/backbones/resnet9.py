"""ResNet-9: a short, wide residual network for 32-pixel images that trains on two CPU cores in under two hours.

The last layer is convolution, batch norm, ReLU without a shortcut, so that the activation before global
pooling is sparse, which the Neural Activation Prior reads.
"""

import torch
from torch import Tensor, nn


def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """3x3 convolution, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class Residual(nn.Module):
    """Two convolutions added to their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(convolution(channels, channels), convolution(channels, channels))

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return torch.add(x, self.body(x))


class ResNet9(nn.Module):
    """Images (N, 3, 32, 32) -> logits (N, K) and ReLU'd activation (N, 256, 8, 8)."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            convolution(3, 64),  # (N, 64, 32, 32)
            convolution(64, 128, stride=2),  # (N, 128, 16, 16)
            Residual(128),
            convolution(128, 256, stride=2),  # (N, 256, 8, 8)
            Residual(256),
            convolution(256, 256),
        )
        self.fc = nn.Linear(256, num_classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        activation = self.layers(images)
        return self.fc(activation.mean((2, 3))), activation

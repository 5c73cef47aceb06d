"""DenseNet-BC for 32-pixel images (Huang et al. 2017): the network of the paper's CIFAR tables."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DenseLayer(nn.Module):
    """Bottleneck of 1x1 and 3x3 convolutions whose output is appended to its input."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, 4 * growth, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        out = self.conv1(F.relu(self.bn1(x)))
        out = self.conv2(F.relu(self.bn2(out)))
        return torch.cat([x, out], 1)


class DenseBlock(nn.Module):
    """Layers of one resolution."""

    def __init__(self, channels: int, growth: int, layers: int) -> None:
        super().__init__()
        self.layer = nn.Sequential(*(DenseLayer(channels + index * growth, growth) for index in range(layers)))

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        out: Tensor = self.layer(x)
        return out


class Transition(nn.Module):
    """1x1 convolution to half the channels, then half the resolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, channels // 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return F.avg_pool2d(self.conv1(F.relu(self.bn1(x))), 2)


class DenseNetBC(nn.Module):
    """Images (N, 3, 32, 32) -> logits (N, K) and ReLU'd activation (N, C, 8, 8)."""

    def __init__(self, num_classes: int, depth: int = 100, growth: int = 12) -> None:
        super().__init__()
        layers, channels = (depth - 4) // 6, 2 * growth
        self.conv1 = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        self.block1 = DenseBlock(channels, growth, layers)
        channels += layers * growth
        self.trans1 = Transition(channels)
        channels //= 2
        self.block2 = DenseBlock(channels, growth, layers)
        channels += layers * growth
        self.trans2 = Transition(channels)
        channels //= 2
        self.block3 = DenseBlock(channels, growth, layers)
        channels += layers * growth
        self.bn1 = nn.BatchNorm2d(channels)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        out = self.trans1(self.block1(self.conv1(images)))
        out = self.block3(self.trans2(self.block2(out)))
        activation = F.relu(self.bn1(out))
        return self.fc(activation.mean((2, 3))), activation

"""The networks that `oodgate export` knows by name, each with the preprocessing it was trained with."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn

from oodgate.images.preprocess import Preprocessing
from oodgate.offline.backbones.cifar_densenet import DenseNetBC
from oodgate.offline.backbones.cifar_resnet import CifarResNet
from oodgate.offline.backbones.resnet9 import ResNet9


@dataclass(frozen=True)
class Backbone:
    """How to build a network that answers (logits, activation), and what it expects to see."""

    build: Callable[[int], nn.Module]  # number of classes -> network
    classifier: str  # name of the linear layer that reads the pooled activation
    preprocessing: Preprocessing


_CIFAR = Preprocessing(resize=32, crop=(32, 32), mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010))
_IMAGENET_NORMALISED = _CIFAR.model_copy(update={"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)})

BACKBONES: dict[str, Backbone] = {
    "densenet-bc-100-12": Backbone(DenseNetBC, "fc", _CIFAR),
    "resnet9": Backbone(ResNet9, "fc", _CIFAR),
    "resnet20-cifar": Backbone(partial(CifarResNet, depth=20), "linear", _IMAGENET_NORMALISED),
    "resnet56-cifar": Backbone(partial(CifarResNet, depth=56), "linear", _IMAGENET_NORMALISED),
}

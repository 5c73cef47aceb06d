"""Images that a network is tried on at export, and how its answers are compared."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from oodgate.errors import ExportError, last_line

PARITY = 1e-4
"""Largest difference between two engines' answers, relative to their largest magnitude."""
_TINY = 1e-12
_EXTREME = 2.0


def probe_images(count: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    """Normalised images (count, 3, *size): noise and smooth shapes in turn, since networks answer them unlike."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 3, *size, generator=generator)
    shapes = torch.randn(count, 3, 5, 5, generator=generator)
    smooth = interpolate(shapes, size, mode="bicubic", align_corners=True) + 0.05 * images
    return torch.where((torch.arange(count) % 2 == 0).view(-1, 1, 1, 1), images, smooth)


def extreme_images(size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """A dark and a bright image (1, 3, *size), near what normalised black and white are."""
    noise = 0.1 * probe_images(1, size)
    return noise - _EXTREME, noise + _EXTREME


def answer_of(network: nn.Module, images: Tensor) -> Any:
    """What a network answers; raises ExportError where it fails."""
    try:
        with torch.no_grad():
            return network(images)
    except Exception as error:
        raise ExportError(
            f"the network fails on images of the shape {tuple(images.shape)} ({type(error).__name__}: "
            f"{last_line(error)}); it must take RGB images of the size of --input, in float32"
        ) from error


def check_parity(expected: tuple[Tensor, Tensor], found: tuple[Tensor, Tensor]) -> float:
    """The largest relative difference of two answers; raises ExportError where it is above PARITY."""
    differences = [relative_difference(want, have) for want, have in zip(expected, found, strict=True)]
    for name, difference in zip(("logits", "activation"), differences, strict=True):
        if not difference <= PARITY:
            raise ExportError(
                f"the exported network's {name} differ by {difference:.2g} from the original's, at most {PARITY}; "
                "does the network depend on the number of images, on chance, or on an `if` about the picture? "
                "Try another --engine"
            )
    return max(differences)


def relative_difference(expected: Tensor, found: Tensor) -> float:
    """Largest difference of two tensors, divided by the largest magnitude; infinite where their shapes differ."""
    if expected.shape != found.shape:
        return float("inf")
    return float((expected - found).abs().max() / expected.abs().max().clamp(min=_TINY))

"""In-distribution images -> evidence on what is strange, without one real out-of-distribution image.

Images are corrupted (the NAP paper, app. H) or made strange (`strangeness/`); their terms are computed once, and
`choice.py` judges every candidate on them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oodgate.offline.corruptions import CORRUPTIONS, corrupt, severities
from oodgate.offline.features import Extractor, ImageTerms, Progress
from oodgate.offline.strangeness.catalogue import FAMILIES


@dataclass(frozen=True)
class Evidence:
    """Terms of in-distribution images, and of what was made of them, by family."""

    known: ImageTerms
    families: Mapping[str, ImageTerms]


def gather_evidence(extractor: Extractor, images: NDArray[np.uint8], seed: int, progress: Progress) -> Evidence:
    """Terms of preprocessed images (N, H, W, 3) and of their pseudo-OOD versions; N forwards a family."""
    known = extractor.of_pixels(images, progress)
    families = {name: extractor.of_pixels(strange, progress) for name, strange in pseudo_ood(images, seed)}
    return Evidence(known, families)


def count_evidence(images: int) -> int:
    """Forwards that `gather_evidence` makes for a number of images."""
    return images * (1 + len(CORRUPTIONS) + len(FAMILIES))


def pseudo_ood(images: NDArray[np.uint8], seed: int) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Every corruption and every family of strangeness of the images, by name; each family has its own seed."""
    levels = severities(min(images.shape[1:3]))
    for name in CORRUPTIONS:
        rows = enumerate(images)
        yield name, np.stack([corrupt(row, name, levels[n % len(levels)], seed * len(images) + n) for n, row in rows])
    for number, (name, make) in enumerate(FAMILIES.items()):
        yield name, make(images, np.random.default_rng([seed, number]))

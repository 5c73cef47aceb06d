"""Pseudo-OOD evidence -> the weight w, and the scorer.

Nothing here sees a real out-of-distribution image: in-distribution images are corrupted (the paper, app. H) or made
strange (`strangeness/`), their log scores are computed once, and every candidate is judged on them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oodgate.offline.corruptions import CORRUPTIONS, corrupt, severities
from oodgate.offline.features import Extractor, ImageTerms, Progress
from oodgate.offline.measures import Measures, measure
from oodgate.offline.strangeness.catalogue import FAMILIES
from oodgate.scores.registry import State

GRID = np.linspace(0, 1, 21).round(2)
"""Weights that are tried, ends included: FPR95 has more than one minimum over w."""


@dataclass(frozen=True)
class Evidence:
    """Terms of in-distribution images, and of what was made of them, by family."""

    known: ImageTerms
    families: Mapping[str, ImageTerms]

    def measures(self, scorer: str, w: float | None, state: State) -> dict[str, Measures]:
        """How well a scorer tells each family from the in-distribution images."""
        known = self.known.scores(scorer, w, state)
        return {name: measure(known, terms.scores(scorer, w, state)) for name, terms in self.families.items()}


def gather_evidence(extractor: Extractor, images: NDArray[np.uint8], seed: int, progress: Progress) -> Evidence:
    """Terms of preprocessed images (N, H, W, 3) and of their pseudo-OOD versions; N forwards a family."""
    known = extractor.of_pixels(images, progress)
    families = {name: extractor.of_pixels(strange, progress) for name, strange in pseudo_ood(images, seed)}
    return Evidence(known, families)


def pseudo_ood(images: NDArray[np.uint8], seed: int) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Every corruption and every family of strangeness of the images, by name; each family has its own seed."""
    levels = severities(min(images.shape[1:3]))
    for name in CORRUPTIONS:
        rows = enumerate(images)
        yield name, np.stack([corrupt(row, name, levels[n % len(levels)], seed * len(images) + n) for n, row in rows])
    for number, (name, make) in enumerate(FAMILIES.items()):
        yield name, make(images, np.random.default_rng([seed, number]))

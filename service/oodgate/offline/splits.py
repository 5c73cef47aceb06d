"""Three disjoint sets of in-distribution images: to fit, to search, to calibrate.

A threshold is valid only for images that nothing before it was chosen on.
"""

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from oodgate.errors import CalibrationError
from oodgate.offline.dataset import ImageFolder, list_images

SHARES = (0.4, 0.2, 0.4)
"""Of one folder: to fit, to search, to calibrate."""


@dataclass(frozen=True)
class Splits:
    """The three sets; the first two are None where nothing is fitted or searched."""

    fit: ImageFolder | None
    search: ImageFolder | None
    calibrate: ImageFolder


@dataclass(frozen=True)
class Folders:
    """Where the images lie; what has no folder of its own is cut out of `known` by the seed."""

    known: Path
    fit: Path | None = None
    search: Path | None = None
    seed: int = 0


def split(folders: Folders, classes: tuple[str, ...], fits: bool, searches: bool) -> Splits:
    """Find the images and cut them into disjoint sets; raises CalibrationError where folders share images."""
    known = list_images(folders.known, classes)
    fit = list_images(folders.fit, classes) if fits and folders.fit else None
    search = list_images(folders.search, classes) if searches and folders.search else None
    needed = (fits and fit is None, searches and search is None, True)
    parts = _cut(known, [share if wanted else 0.0 for share, wanted in zip(SHARES, needed, strict=True)], folders.seed)
    splits = Splits(fit or parts[0], search or parts[1], parts[2] or known)
    _check_disjoint(splits.fit, splits.search, splits.calibrate)
    return splits


def with_more(splits: Splits, added: ImageFolder) -> Splits:
    """More images to calibrate on; raises CalibrationError where one of them is in a set already."""
    _check_disjoint(splits.fit, splits.search, splits.calibrate, added)
    own = splits.calibrate
    labels = None if own.labels is None or added.labels is None else (*own.labels, *added.labels)
    return replace(splits, calibrate=ImageFolder((*own.paths, *added.paths), labels))


def _cut(images: ImageFolder, shares: list[float], seed: int) -> list[ImageFolder | None]:
    order = np.random.default_rng(seed).permutation(len(images))
    edges = np.round(np.cumsum([0.0, *shares]) / sum(shares) * len(images)).astype(int)
    parts = [np.sort(order[start:end]) for start, end in pairwise(edges)]
    return [images.take(part.tolist()) if len(part) else None for part in parts]


def _check_disjoint(*parts: ImageFolder | None) -> None:
    seen: set[Path] = set()
    for part in parts:
        paths = {path.resolve() for path in part.paths} if part else set()
        if shared := seen & paths:
            raise CalibrationError(
                f"{len(shared)} images, such as {min(shared)}, are in two folders: none may both shape the score and "
                "calibrate its threshold, or count twice; give folders that share no image"
            )
        seen |= paths

"""A bundle against labelled in-distribution images and sets of strange ones: the numbers that a person judges it by."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oodgate.bundle import Bundle
from oodgate.offline.dataset import list_images
from oodgate.offline.features import Extractor, Progress
from oodgate.offline.measures import Measures, accuracy, mean_measures, measure
from oodgate.settings import Device


@dataclass(frozen=True)
class Evaluation:
    """Measures by set and scorer, and what the bundle's own threshold does, in percent."""

    images: int
    accuracy: float | None  # None where the folders are not named after the classes
    sets: dict[str, dict[str, Measures]]
    accepted: dict[str, float]  # share accepted by the calibrated threshold, "id" and each set

    @property
    def mean(self) -> dict[str, Measures]:
        """The average over sets by scorer."""
        scorers = next(iter(self.sets.values()))
        return {scorer: mean_measures([row[scorer] for row in self.sets.values()]) for scorer in scorers}

    def as_dict(self) -> dict[str, Any]:
        """The document that `--json` prints."""
        return {
            "id": {"images": self.images, "accuracy": self.accuracy},
            "sets": {name: {scorer: asdict(row) for scorer, row in rows.items()} for name, rows in self.sets.items()},
            "mean": {scorer: asdict(row) for scorer, row in self.mean.items()},
            "accepted": self.accepted,
        }


def evaluate(
    bundle: Bundle,
    id_folder: Path,
    ood_folders: Mapping[str, Path],
    scorers: Sequence[str],
    device: Device,
    progress: Progress,
    cache: Path | None = None,
) -> Evaluation:
    """Measure `scorers` on every set, with the bundle's own w and settings."""
    own = bundle.calibration.scorer
    extractor = Extractor(bundle, {*scorers, own.name}, own.parameters, device, bundle.calibration.precision, cache)
    folders = {"id": id_folder, **ood_folders}
    images = {name: list_images(folder, bundle.manifest.classes) for name, folder in folders.items()}
    terms = {name: extractor.of_files(found.paths, progress) for name, found in images.items()}

    def scores(name: str, scorer: str) -> NDArray[np.float32]:
        return terms[name].scores(scorer, own.w, bundle.state)

    labels, threshold = images["id"].labels, bundle.calibration.threshold
    return Evaluation(
        images=len(images["id"]),
        accuracy=None if labels is None else accuracy(terms["id"].predicted.numpy(), labels),
        sets={
            name: {scorer: measure(scores("id", scorer), scores(name, scorer)) for scorer in scorers}
            for name in ood_folders
        },
        accepted={name: 100 * float((scores(name, own.name) >= threshold).mean()) for name in folders},
    )

"""A bundle against labelled in-distribution images and sets of strange ones: the numbers that a person judges it by."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from oodgate.bundle import Bundle
from oodgate.model import Model
from oodgate.offline.dataset import list_images
from oodgate.offline.features import FolderTerms, Progress, compute_folder
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
) -> Evaluation:
    """Measure `scorers` on every set, with the bundle's own w and settings."""
    own = bundle.calibration.scorer
    model = Model(bundle, device, bundle.calibration.precision)

    def terms_below(folder: Path) -> FolderTerms:
        images = list_images(folder, bundle.manifest.classes)
        needed = {*scorers, own.name}
        return compute_folder(
            model, bundle.state, bundle.manifest.preprocessing, images, needed, own.parameters, progress
        )

    known = list_images(id_folder, bundle.manifest.classes)
    known_terms = terms_below(id_folder)
    strange_terms = {name: terms_below(folder) for name, folder in ood_folders.items()}
    threshold = bundle.calibration.threshold
    return Evaluation(
        images=len(known),
        accuracy=None if known.labels is None else accuracy(known_terms.predicted, known.labels),
        sets={
            name: {
                scorer: measure(known_terms.scores(scorer, own.w), terms.scores(scorer, own.w)) for scorer in scorers
            }
            for name, terms in strange_terms.items()
        },
        accepted={
            name: 100 * float((terms.scores(own.name, own.w) >= threshold).mean())
            for name, terms in {"id": known_terms, **strange_terms}.items()
        },
    )

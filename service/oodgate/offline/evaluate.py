"""A bundle against labelled in-distribution images and sets of strange ones: the numbers that a person judges it by."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from oodgate.bundle import Bundle
from oodgate.offline.dataset import ImageFolder
from oodgate.offline.features import Extractor, ImageTerms, Progress
from oodgate.offline.measures import Measures, accuracy, mean_measures, measure

KNOWN = "id"
"""Name of the in-distribution set among the sets."""


@dataclass(frozen=True)
class Evaluation:
    """Measures by strange set and scorer, and what the bundle's own threshold does, in percent."""

    images: Mapping[str, ImageFolder]  # by set, the known one among them
    terms: Mapping[str, ImageTerms]  # by set, the known one among them
    accuracy: float | None  # None where the folders are not named after the classes
    sets: dict[str, dict[str, Measures]]
    accepted: dict[str, float]  # share accepted by the calibrated threshold, of every set

    @property
    def mean(self) -> dict[str, Measures]:
        """The average over strange sets by scorer."""
        scorers = next(iter(self.sets.values()))
        return {scorer: mean_measures([row[scorer] for row in self.sets.values()]) for scorer in scorers}

    def as_dict(self) -> dict[str, Any]:
        """The document that `--json` prints."""
        return {
            KNOWN: {"images": len(self.images[KNOWN]), "accuracy": self.accuracy},
            "sets": {name: {scorer: asdict(row) for scorer, row in rows.items()} for name, rows in self.sets.items()},
            "mean": {scorer: asdict(row) for scorer, row in self.mean.items()},
            "accepted": self.accepted,
        }


def evaluate(
    bundle: Bundle, extractor: Extractor, images: Mapping[str, ImageFolder], scorers: Sequence[str], progress: Progress
) -> Evaluation:
    """Measure `scorers` on every set of `images`, one of which is KNOWN, with the bundle's own w and settings."""
    own, threshold = bundle.calibration.scorer, bundle.calibration.threshold
    terms = {name: extractor.of_files(found.paths, progress) for name, found in images.items()}
    known = {scorer: terms[KNOWN].scores(scorer, own.w, bundle.state) for scorer in scorers}
    labels = images[KNOWN].labels
    return Evaluation(
        images=images,
        terms=terms,
        accuracy=None if labels is None else accuracy(terms[KNOWN].predicted.numpy(), labels),
        sets={
            name: {scorer: measure(known[scorer], found.scores(scorer, own.w, bundle.state)) for scorer in scorers}
            for name, found in terms.items()
            if name != KNOWN
        },
        accepted={
            name: 100 * float((found.scores(own.name, own.w, bundle.state) >= threshold).mean())
            for name, found in terms.items()
        },
    )

"""What scores, p-values and decisions cost a service: the same one beside it only classifies, and they take turns.

Run as a module this is the one that only classifies.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from shutil import copytree
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor
from torch.nn.functional import pad

from oodgate import gate
from oodgate.bench.limit import Progress
from oodgate.bench.overhead import put
from oodgate.bench.pictures import ImageFile, files_for
from oodgate.bench.served import Row, Service, answered, serving
from oodgate.bundle import load_bundle
from oodgate.fronts import device
from oodgate.score_table import ScoreTable, ranked
from oodgate.settings import Settings

CLIENTS = 32
ROUNDS = 10
STEPS = 2 * ROUNDS


@dataclass(frozen=True)
class Scoring:
    """Loads of both services, in turns."""

    scoring: tuple[Row, ...]
    classifying: tuple[Row, ...]

    @property
    def ratio(self) -> float:
        """Throughput with scores over throughput without: the median of the rounds."""
        rates = zip(self.scoring, self.classifying, strict=True)
        return median(one.requests_per_s / other.requests_per_s for one, other in rates)

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        return asdict(self) | {"ratio": self.ratio}


def measure_scoring(settings: Settings, where: str | None, duration_s: float, progress: Progress) -> Scoring:
    """Load both services, each round in the other order."""
    files = files_for(load_bundle(settings.bundle, settings.trusted_keys).manifest, where, settings)
    rows: tuple[list[Row], list[Row]] = ([], [])
    with TemporaryDirectory() as folder, both_serving(settings, files, Path(folder)) as services:
        for turn in range(ROUNDS):
            both = list(zip(services, rows, strict=True))
            for service, found in both if turn % 2 == 0 else reversed(both):
                found.append(answered(service.closed(CLIENTS, duration_s)))
                progress(1)
    return Scoring(tuple(rows[0]), tuple(rows[1]))


@contextmanager
def both_serving(settings: Settings, files: Sequence[ImageFile], folder: Path) -> Iterator[tuple[Service, Service]]:
    """The service and the one that only classifies; both run the network in one way, which a start before has measured.

    Measured by each it may be two ways, which makes more of a difference than scores do.
    """
    own, other = folder / "scoring", folder / "classifying"
    own.mkdir()
    with serving(settings, files, state=own):
        pass
    copytree(own, other)
    with (
        serving(settings, files, state=own) as scoring,
        serving(settings, files, module=__name__, state=other) as classifying,
    ):
        yield scoring, classifying


class ClassTable(ScoreTable):
    """Probabilities and rankings, and zeros in the place of all the rest."""

    def _operators(self, logits: Tensor, activation: Tensor) -> tuple[Tensor, Tensor]:
        probabilities = self._probabilities(logits)
        return pad(probabilities, (2 + len(self.terms), 0)), ranked(probabilities)


if __name__ == "__main__":
    put(gate, "ScoreTable", ClassTable)
    device.serve(Settings())

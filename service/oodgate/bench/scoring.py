"""What scores, p-values and decisions cost a service: the same one beside it only classifies, and they take turns.

Run as a module this is the one that only classifies.
"""

from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from torch import Tensor
from torch.nn.functional import pad

from oodgate import gate
from oodgate.api import server
from oodgate.bench.limit import Progress
from oodgate.bench.overhead import put
from oodgate.bench.pictures import files_for
from oodgate.bench.served import Row, serving
from oodgate.bundle import load_bundle
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
    with serving(settings, files) as scoring, serving(settings, files, module=__name__) as classifying:
        for turn in range(ROUNDS):
            both = list(zip((scoring, classifying), rows, strict=True))
            for service, found in both if turn % 2 == 0 else reversed(both):
                found.append(service.closed(CLIENTS, duration_s))
                progress(1)
    return Scoring(tuple(rows[0]), tuple(rows[1]))


class ClassTable(ScoreTable):
    """Probabilities and rankings, and zeros in the place of all the rest."""

    def _operators(self, logits: Tensor, activation: Tensor) -> tuple[Tensor, Tensor]:
        probabilities = (logits / self._calibration.temperature).softmax(1)
        return pad(probabilities, (2 + len(self.terms), 0)), ranked(probabilities)


if __name__ == "__main__":
    put(gate, "ScoreTable", ClassTable)
    server.serve(Settings())

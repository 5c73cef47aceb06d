"""The service under load, as its operator has set it, and how near it comes to the limit of the machine.

Limit and loads take turns: a machine that is slower for a minute is so for both, and the median of the rounds counts.
"""

from dataclasses import asdict, dataclass
from typing import Any

from oodgate.bench.limit import Limit, Parts, Progress, parts_of
from oodgate.bench.pictures import files_for, mean_bytes
from oodgate.bench.served import Row, Service, serving
from oodgate.bundle import load_bundle
from oodgate.cores import available_cores
from oodgate.gate import check_precision
from oodgate.settings import Settings


@dataclass(frozen=True)
class Plan:
    """What to measure: closed loops of so many clients each, and an open loop where there is a rate."""

    settings: Settings  # the bundle among them
    files: str | None = None  # folder or pattern; None generates files
    clients: tuple[int, ...] = (1, 8, 32, 64)
    duration_s: float = 5.0
    rate: float | None = None
    rounds: int = 3

    @property
    def steps(self) -> int:
        """How often the measurement calls `progress`."""
        return self.rounds * (1 + len(self.clients) + (self.rate is not None))


@dataclass(frozen=True)
class Round:
    """The limit, and all loads right after."""

    limit: Limit
    rows: tuple[Row, ...]

    @property
    def reached(self) -> float:
        """Requests a second of the best load."""
        return max(row.requests_per_s for row in self.rows)

    @property
    def ratio(self) -> float:
        """The best load against the limit."""
        return self.reached / self.limit.images_per_s

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        return asdict(self) | {"limit": self.limit.as_dict(), "reached": self.reached, "ratio": self.ratio}


@dataclass(frozen=True)
class Report:
    """All rounds."""

    bundle: str
    cores: int
    files: int
    mean_bytes: float
    rounds: tuple[Round, ...]

    @property
    def median(self) -> Round:
        """The round in the middle by its ratio; the worse of two."""
        return sorted(self.rounds, key=lambda one: one.ratio)[(len(self.rounds) - 1) // 2]

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        return asdict(self) | {"rounds": [one.as_dict() for one in self.rounds], "median": self.median.as_dict()}


def measure_service(plan: Plan, progress: Progress) -> Report:
    """Load a service of its own and measure the limit with the same files and settings, round by round."""
    bundle = load_bundle(plan.settings.bundle, plan.settings.trusted_keys)
    check_precision(bundle.manifest.name, bundle.calibration, plan.settings.precision)
    files = files_for(bundle.manifest, plan.files, plan.settings)
    with parts_of(bundle, plan.settings, files) as parts, serving(plan.settings, files) as service:
        rounds = tuple(_round(parts, service, plan, progress) for _ in range(plan.rounds))
    return Report(bundle.manifest.name, available_cores(), len(files), mean_bytes(files), rounds)


def _round(parts: Parts, service: Service, plan: Plan, progress: Progress) -> Round:
    limit = parts.measure(plan.duration_s)
    progress(1)
    rows = []
    for clients in plan.clients:
        rows.append(service.closed(clients, plan.duration_s))
        progress(1)
    if plan.rate is not None:
        rows.append(service.open(plan.rate, plan.duration_s))
        progress(1)
    return Round(limit, tuple(rows))

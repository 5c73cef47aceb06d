"""The service under load, as its operator has set it, and how near it comes to the limit of the machine."""

from dataclasses import asdict, dataclass
from typing import Any

from oodgate.bench.limit import Limit, Progress, measure_limit
from oodgate.bench.limit import steps as limit_steps
from oodgate.bench.pictures import files_for, mean_bytes
from oodgate.bench.process import cores
from oodgate.bench.served import Row, Service, serving
from oodgate.bundle import load_bundle
from oodgate.model import choose_device
from oodgate.settings import Settings


@dataclass(frozen=True)
class Plan:
    """What to measure: closed loops of so many clients each, and an open loop where there is a rate."""

    settings: Settings  # the bundle among them
    files: str | None = None  # folder or pattern; None generates files
    clients: tuple[int, ...] = (1, 8, 32, 64)
    duration_s: float = 5.0
    rate: float | None = None

    @property
    def steps(self) -> int:
        """How often the measurement calls `progress`; raises SetupError where the device is absent."""
        return len(self.clients) + (self.rate is not None) + limit_steps(choose_device(self.settings.device))


@dataclass(frozen=True)
class Report:
    """All loads and the limit."""

    bundle: str
    cores: int
    files: int
    mean_bytes: float
    rows: tuple[Row, ...]
    limit: Limit

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


def measure_service(plan: Plan, progress: Progress) -> Report:
    """Load a service of its own, end it, then measure the limit with the same files and settings."""
    bundle = load_bundle(plan.settings.bundle, plan.settings.trusted_keys)
    files = files_for(bundle.manifest, plan.files, plan.settings)
    with serving(plan.settings, files) as service:
        rows = tuple(_rows(service, plan, progress))
    limit = measure_limit(bundle, plan.settings, files, plan.duration_s, progress)
    return Report(bundle.manifest.name, cores(), len(files), mean_bytes(files), rows, limit)


def _rows(service: Service, plan: Plan, progress: Progress) -> list[Row]:
    rows = []
    for clients in plan.clients:
        rows.append(service.closed(clients, plan.duration_s))
        progress(1)
    if plan.rate is not None:
        rows.append(service.open(plan.rate, plan.duration_s))
        progress(1)
    return rows

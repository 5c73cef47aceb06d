"""What `oodgate bench` can measure, each with its length, its record for machines and its tables for people."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from oodgate.bench import tables
from oodgate.bench.gate_alone import measure_gate
from oodgate.bench.growth import STEPS as GROWTH_STEPS
from oodgate.bench.growth import measure_growth, save_growth
from oodgate.bench.limit import Progress
from oodgate.bench.overhead import STEPS as OVERHEAD_STEPS
from oodgate.bench.overhead import measure_overhead
from oodgate.bench.scores import measure_costs
from oodgate.bench.scoring import STEPS as SCORING_STEPS
from oodgate.bench.scoring import measure_scoring
from oodgate.bench.service import Plan, measure_service
from oodgate.bundle import load_bundle
from oodgate.errors import SetupError

Result = tuple[dict[str, Any], Iterable[RenderableType]]

_MOST_CLIENTS = 4096


@dataclass(frozen=True)
class Measurement:
    """Something to run; `steps` is how often it reports progress."""

    steps: int
    run: Callable[[Progress], Result]


def measurement(kind: str, plan: Plan, images: int, rounds: int, folder: Path | None) -> Measurement:
    """What to run, by its name; `images` and `rounds` are of the scores, `folder` takes the plot of growth."""

    def service(progress: Progress) -> Result:
        report = measure_service(plan, progress)
        return report.as_dict(), tables.tables_of_service(report)

    def overhead(progress: Progress) -> Result:
        measured = measure_overhead(plan.settings, plan.duration_s, progress)
        return measured.as_dict(), tables.tables_of_overhead(measured)

    def growth(progress: Progress) -> Result:
        grown = measure_growth(plan.settings, plan.files, plan.duration_s, progress)
        if folder:
            save_growth(grown, folder)
        return grown.as_dict(), tables.tables_of_growth(grown)

    def scores(progress: Progress) -> Result:
        settings = plan.settings
        bundle = load_bundle(settings.bundle, settings.trusted_keys)
        costs = measure_costs(bundle, settings.device, settings.precision, images, rounds, progress)
        return asdict(costs), tables.tables_of_scores(costs)

    def scoring(progress: Progress) -> Result:
        measured = measure_scoring(plan.settings, plan.files, plan.duration_s, progress)
        return measured.as_dict(), tables.tables_of_scoring(measured)

    def gate(progress: Progress) -> Result:
        alone = measure_gate(plan.settings, plan.duration_s, plan.rounds, progress)
        return alone.as_dict(), tables.tables_of_gate(alone)

    return {
        "gate": Measurement(plan.rounds, gate),
        "service": Measurement(plan.steps, service),
        "overhead": Measurement(OVERHEAD_STEPS, overhead),
        "growth": Measurement(GROWTH_STEPS, growth),
        "scores": Measurement(rounds, scores),
        "scoring": Measurement(SCORING_STEPS, scoring),
    }[kind]


def parse_clients(text: str) -> tuple[int, ...]:
    """Numbers separated by commas; raises SetupError where they are none."""
    try:
        clients = tuple(int(part) for part in text.split(","))
    except ValueError:
        clients = (0,)
    if not all(1 <= number <= _MOST_CLIENTS for number in clients):
        raise SetupError(f"'{text}' are no numbers of clients from 1 to {_MOST_CLIENTS}; write --clients 1,8,32,64")
    return clients

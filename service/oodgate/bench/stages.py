"""What the service counted between two scrapes of its metrics: where the time went, and how full the batches were."""

from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from oodgate.observability.metrics import STAGES

Totals = Mapping[tuple[str, str], float]
"""Sums over the models, by sample name and stage ("" where there is none)."""


@dataclass(frozen=True)
class Inside:
    """Means over what was answered between two scrapes; None where nothing was."""

    batch: float | None  # images in a forward
    stages_ms: dict[str, float | None]  # as an image sees it: a batch's forward counts for each of its images


def read_totals(text: str) -> Totals:
    """The sums and counts of the histograms in a page of metrics."""
    totals: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.endswith(("_sum", "_count")):
                key = (sample.name, sample.labels.get("stage", ""))
                totals[key] = totals.get(key, 0.0) + sample.value
    return totals


def between(before: Totals, after: Totals) -> Inside:
    """What changed from one scrape to the next."""
    durations = {stage: _mean(before, after, "oodgate_stage_duration_seconds", stage) for stage in STAGES}
    return Inside(
        batch=_mean(before, after, "oodgate_batch_size", ""),
        stages_ms={stage: None if mean is None else 1000 * mean for stage, mean in durations.items()},
    )


def _mean(before: Totals, after: Totals, histogram: str, stage: str) -> float | None:
    total, number = (
        after.get((f"{histogram}_{part}", stage), 0.0) - before.get((f"{histogram}_{part}", stage), 0.0)
        for part in ("sum", "count")
    )
    return total / number if number else None

"""What every score costs."""

from pathlib import Path

import pytest

from oodgate.bench.scores import measure_costs
from oodgate.bundle import load_bundle
from oodgate.scores.registry import SCORERS


def test_every_scorer_has_a_cost(bundle_folder: Path) -> None:
    costs = measure_costs(load_bundle(bundle_folder), "cpu", "float32", images=2, rounds=2, progress=lambda count: None)
    assert [row.scorer for row in costs.scores] == list(SCORERS)
    assert all(
        row.score_ms > 0 and row.share == pytest.approx(100 * row.score_ms / costs.forward_ms) for row in costs.scores
    )

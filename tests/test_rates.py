"""Rates of a network in several ways: those of each size, of the threads that were asked for, and of no others."""

from pathlib import Path
from threading import get_ident

import pytest
import torch

from conftest import tiny_bundle
from oodgate import rates
from oodgate.model import Model
from oodgate.rates import Team, Way, measure_rates, team_for

CROP = (16, 16)
PIXELS = torch.zeros(1, *CROP, 3, dtype=torch.uint8)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return Model(tiny_bundle(tmp_path), "cpu")


def test_every_way_is_measured_at_every_size(model: Model) -> None:
    ways = [Way(1, 1), Way(2, 1), Way(2, 1, "openvino"), Way(2, 1, "onednn")]
    found = measure_rates(model, model.run, CROP, ways, (1, 2))
    assert list(found) == ways
    assert all(list(by_size) == [1, 2] and min(by_size.values()) > 0 for by_size in found.values())


def test_a_way_that_cannot_be_taken_is_left_out(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "accelerate", lambda *way: False)
    assert team_for(model, model.run, Way(1, 1, "onednn")) is None
    assert list(measure_rates(model, model.run, CROP, [Way(1, 1), Way(1, 1, "onednn")], (1,))) == [Way(1, 1)]


def test_larger_batches_are_not_tried_where_they_gain_nothing(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {1: 1.0, 2: 10.0, 4: 1.0, 8: 10.0}
    monkeypatch.setattr(rates, "_LONGEST_FORWARD_S", 100)
    monkeypatch.setattr(rates, "_seconds_of_forwards", lambda teams, pixels: [seconds[len(pixels)]])
    assert measure_rates(model, model.run, CROP, [Way(1, 1)], (1, 2, 4, 8, 16)) == {
        Way(1, 1): {1: 1.0, 2: 0.2, 4: 4.0, 8: 0.8}
    }


def test_every_thread_of_a_team_does_its_share(model: Model) -> None:
    runs: list[int] = []
    with Team(model, lambda pixels: runs.append(get_ident()), Way(3, 1)) as team:
        assert team.seconds(PIXELS, 5) > 0
    assert sorted(runs.count(thread) for thread in set(runs)) == [5, 5, 5]

"""Rates of a network in several ways: those of each size, of the threads that were asked for, and of no others."""

from collections.abc import Callable
from pathlib import Path
from threading import get_ident
from typing import ClassVar

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
    found = measure_rates(model, model.run, ways, (1, 2))
    assert list(found) == ways
    assert all(list(by_size) == [1, 2] and min(by_size.values()) > 0 for by_size in found.values())


def test_a_way_that_cannot_be_taken_is_left_out(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "accelerate", lambda *way: False)
    assert team_for(model, model.run, Way(1, 1, "onednn")) is None
    assert list(measure_rates(model, model.run, [Way(1, 1), Way(1, 1, "onednn")], (1,))) == [Way(1, 1)]


class TimedTeam(Team):
    """Tells how long a forward takes, as it is told by way and size, look by look; and keeps what it was asked."""

    looks: ClassVar[dict[Way, dict[int, list[float]]]]
    asked: ClassVar[list[tuple[Way, int]]]

    def seconds(self, pixels: torch.Tensor, count: int) -> float:
        size = len(pixels)
        self.asked.append((self.way, size))
        looks = self.looks[self.way][size]
        return looks.pop(0) if len(looks) > 1 else looks[0]


@pytest.fixture
def timed(model: Model, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[Way, dict[int, float]]]:
    """Rates from seconds by way and size: of the warm-up, the first look, the next, and so on."""

    def measure(looks: dict[Way, dict[int, list[float]]]) -> dict[Way, dict[int, float]]:
        TimedTeam.looks, TimedTeam.asked = looks, []
        sizes = tuple(next(iter(looks.values())))
        return measure_rates(model, model.run, list(looks), sizes)

    monkeypatch.setattr(rates, "Team", TimedTeam)
    monkeypatch.setattr(rates, "_LONGEST_FORWARD_S", 100)
    return measure


Timed = Callable[..., dict[Way, dict[int, float]]]


def test_larger_batches_are_not_tried_where_two_sizes_gain_nothing(timed: Timed) -> None:
    found = timed({Way(1, 1): {1: [1.0], 2: [10.0], 4: [1.0], 8: [10.0], 16: [9.0], 32: [0.1]}})
    assert found == {Way(1, 1): {1: 1.0, 2: 0.2, 4: 4.0, 8: 0.8, 16: 16 / 9}}


def test_the_best_of_several_looks_counts_and_the_warm_up_does_not(timed: Timed) -> None:
    assert timed({Way(2, 1): {1: [0.1, 4.0, 3.0, 5.0, 2.0, 9.0], 2: [9.0, 8.0]}}) == {Way(2, 1): {1: 1.0, 2: 0.5}}


def test_ways_that_are_clearly_slower_are_not_looked_at_again(timed: Timed) -> None:
    fast, near, slow = Way(1, 1), Way(1, 1, "openvino"), Way(1, 1, "onednn")
    timed({fast: {1: [1.0]}, near: {1: [1.1]}, slow: {1: [1.8]}})
    assert [TimedTeam.asked.count((way, 1)) for way in (fast, near, slow)] == [6, 6, 2]


def test_sizes_beyond_the_memory_are_left_out(model: Model) -> None:
    def work(pixels: torch.Tensor) -> None:
        if len(pixels) > 2:
            raise MemoryError

    assert list(measure_rates(model, work, [Way(1, 1)], (1, 2, 4, 8))[Way(1, 1)]) == [1, 2]


def test_a_size_beyond_the_memory_of_one_way_is_left_out_of_all(timed: Timed) -> None:
    class Full(dict[int, list[float]]):
        def __getitem__(self, size: int) -> list[float]:
            if size == 4:
                raise MemoryError
            return super().__getitem__(size)

    small, large = Way(1, 1), Way(2, 1)
    found = timed({small: {1: [1.0], 2: [1.0], 4: [1.0]}, large: Full({1: [1.0], 2: [1.0], 4: [1.0]})})
    assert {way: list(by_size) for way, by_size in found.items()} == {small: [1, 2], large: [1, 2]}


def test_want_of_memory_for_a_single_image_is_said(model: Model) -> None:
    def work(pixels: torch.Tensor) -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        measure_rates(model, work, [Way(1, 1)], (1, 2))


def test_a_network_that_fails_is_no_want_of_memory(model: Model) -> None:
    def work(pixels: torch.Tensor) -> None:
        raise RuntimeError("a fault of the network")

    with pytest.raises(RuntimeError, match="a fault of the network"):
        measure_rates(model, work, [Way(1, 1)], (1, 2))


def test_every_thread_of_a_team_does_its_share(model: Model) -> None:
    runs: list[int] = []
    with Team(model, lambda pixels: runs.append(get_ident()), Way(3, 1)) as team:
        assert team.seconds(PIXELS, 5) > 0
    assert sorted(runs.count(thread) for thread in set(runs)) == [5, 5, 5]

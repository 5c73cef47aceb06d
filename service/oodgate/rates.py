"""How many images a network answers in a second: run in several ways, which take turns."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Barrier
from time import perf_counter
from typing import NamedTuple, Self

from torch import Tensor

from oodgate.acceleration import How
from oodgate.model import Model, is_out_of_memory
from oodgate.settings import Acceleration

_GAIN = 1.05  # of one size over all smaller ones: without it, larger batches only make images wait
_LEAST_TRIED = 4  # images
_FURTHER_LOOKS = 4
_PROMISING = 0.6  # of the fastest way: those below are not looked at again
_LONGEST_FORWARD_S = 0.5
_LONGEST_WAIT_S = 60.0  # of a thread for the others of its team
_TURN_S, _MOST_FORWARDS = 0.015, 100
_BUDGET_S = 1.0  # of one way: on a busy machine the sizes that were reached have to do


Work = Callable[[Tensor], object]
"""Takes uint8 pixels (N, H, W, 3)."""


class Way(NamedTuple):
    """So many forwards at the same time, each with so many threads, where 0 leaves it to torch."""

    workers: int
    threads: int
    acceleration: Acceleration = "none"

    @property
    def how(self) -> How:
        """One of the forwards."""
        return How(self.threads, self.acceleration)


def measure_rates(
    model: Model, work: Work, ways: Sequence[Way], sizes: Sequence[int], on_device: bool = False
) -> dict[Way, dict[int, float]]:
    """Images per second by size of a batch, up to where larger ones gain nothing.

    `work` runs the model on pixels, of the host or `on_device` already, and does what else each batch costs. Ways that
    cannot be accelerated are left out, which may be all.
    Everything is looked at several times, as a machine may be slow for a moment, and the best of each counts; after the
    first time without what that has shown to be clearly slower.
    """
    rates: dict[Way, dict[int, float]] = {}

    def pixels(images: int) -> Tensor:
        noise = model.noise(images)
        return noise.to(model.device) if on_device else noise

    with ExitStack() as running:
        teams = {way: running.enter_context(team) for way in ways if (team := team_for(model, work, way))}
        if not teams:
            return {}
        spent_s = 0.0
        for size in sizes:
            try:
                batch = pixels(size)
                for team in teams.values():
                    team.seconds(batch, 1)  # warms up, which may take a GPU seconds
                start = perf_counter()
                longest_s = _look(teams, rates, batch)
                spent_s += perf_counter() - start
            except Exception as error:
                if size == sizes[0] or not is_out_of_memory(error):
                    raise
                for found in rates.values():
                    found.pop(size, None)
                break  # the smaller sizes have to do
            if not _gains(rates) or longest_s > _LONGEST_FORWARD_S or spent_s > _BUDGET_S * len(teams):
                break
        for size in _FURTHER_LOOKS * tuple(next(iter(rates.values()))):
            best = max(found[size] for found in rates.values())
            again = {way: team for way, team in teams.items() if rates[way][size] >= _PROMISING * best}
            try:
                _look(again, rates, pixels(size))
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                break  # the first looks have to do
    return rates


def team_for(model: Model, work: Work, way: Way) -> "Team | None":
    """Threads that run the network in this way; None where it cannot be accelerated so."""
    fit = not way.how.accelerated or model.accelerate(way.how, way.workers)
    return Team(model, work, way) if fit else None


class Team:
    """Threads that run the network at the same time, all in one way."""

    def __init__(self, model: Model, work: Work, way: Way, portion: int = 0) -> None:
        """After `Model.accelerate`, where the way is accelerated."""
        self._model, self._work, self.way, self._portion = model, work, way, portion
        self._start = Barrier(way.workers)
        self._pool = ThreadPoolExecutor(way.workers, initializer=self._enter)
        self._all(lambda: None)  # every thread takes its copy before another team's are made

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def seconds(self, pixels: Tensor, count: int) -> float:
        """Of one of so many forwards, which all threads run at the same time."""

        def forwards() -> None:
            for _ in range(count):
                self._work(pixels)
            self._model.synchronize()

        start = perf_counter()
        self._all(forwards)
        return (perf_counter() - start) / count

    def images_per_s(self, pixels: Tensor, duration_s: float) -> float:
        """Of all threads together, over so many seconds."""
        count = max(1, round(duration_s / self.seconds(pixels, 1)))
        return self.way.workers * len(pixels) / self.seconds(pixels, count)

    def _enter(self) -> None:
        self._model.enter_worker([self.way.how], self._portion)
        self._model.adapt(self.way.how)

    def _all(self, work: Callable[[], None]) -> None:
        def together() -> None:
            self._start.wait(_LONGEST_WAIT_S)  # else a quick thread would do another's share
            work()

        for done in [self._pool.submit(together) for _ in range(self.way.workers)]:
            done.result()


def _look(teams: "Mapping[Way, Team]", rates: dict[Way, dict[int, float]], pixels: Tensor) -> float:
    """Measure all teams once and keep the best that each has shown; returns the seconds of the longest forward."""
    size, longest_s = len(pixels), 0.0
    for way, team in teams.items():
        found = rates.setdefault(way, {})
        known_s = way.workers * size / found[size] if size in found else _TURN_S
        seconds = team.seconds(pixels, max(1, min(_MOST_FORWARDS, round(_TURN_S / known_s))))
        found[size] = max(found.get(size, 0.0), way.workers * size / seconds)
        longest_s = max(longest_s, seconds)
    return longest_s


def _gains(rates: dict[Way, dict[int, float]]) -> bool:
    """Whether one of the last two sizes is faster than all smaller ones, in any way, or few were tried."""
    for found in rates.values():
        *smaller, _, _ = values = [0.0, 0.0, *found.values()]
        if max(found) <= _LEAST_TRIED or max(values[-2:]) > _GAIN * max(smaller):
            return True
    return False

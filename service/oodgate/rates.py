"""How many images a network answers in a second: run in several ways, which take turns."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Barrier
from time import perf_counter
from typing import NamedTuple, Self

import torch
from torch import Tensor

from oodgate.acceleration import How
from oodgate.model import Model, is_out_of_memory
from oodgate.settings import Acceleration

_GAIN = 1.05  # of one size over all smaller ones: without it, larger batches only make images wait
_LEAST_TRIED = 4  # images: a pause of the machine must not end the search at its start
_LONGEST_FORWARD_S = 0.5
_LONGEST_WAIT_S = 60.0  # of a thread for the others of its team
_TURN_S, _TURNS, _MOST_FORWARDS = 0.03, 3, 200
_BUDGET_S = 0.6  # of one way: on a busy machine the sizes that were reached have to do


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
    model: Model, work: Work, crop: tuple[int, int], ways: Sequence[Way], sizes: Sequence[int]
) -> dict[Way, dict[int, float]]:
    """Images per second by size of a batch, up to where larger ones gain nothing.

    `work` runs the model on pixels and does what else each batch costs. Ways that cannot be accelerated are left out.
    """
    rates: dict[Way, dict[int, float]] = {}
    with ExitStack() as running:
        teams = {way: running.enter_context(team) for way in ways if (team := team_for(model, work, way))}
        end = perf_counter() + _BUDGET_S * len(teams)
        for size in sizes:
            pixels = torch.zeros(size, *crop, 3, dtype=torch.uint8)
            try:
                seconds = dict(zip(teams, _seconds_of_forwards(list(teams.values()), pixels), strict=True))
            except Exception as error:
                if not rates or not is_out_of_memory(error):
                    raise
                break  # the smaller sizes have to do
            before = {way: max(found.values()) for way, found in rates.items()}
            for way in teams:
                rates.setdefault(way, {})[size] = way.workers * size / seconds[way]
            gain = size < _LEAST_TRIED or any(rates[way][size] > _GAIN * before.get(way, 0) for way in teams)
            if not gain or max(seconds.values()) > _LONGEST_FORWARD_S or perf_counter() > end:
                break
    return rates


def team_for(model: Model, work: Work, way: Way) -> "Team | None":
    """Threads that run the network in this way; None where it cannot be accelerated so."""
    fit = not way.how.accelerated or model.accelerate(way.how, way.workers)
    return Team(model, work, way) if fit else None


class Team:
    """Threads that run the network at the same time, all in one way."""

    def __init__(self, model: Model, work: Work, way: Way) -> None:
        """After `Model.accelerate`, where the way is accelerated."""
        self._model, self._work, self._way = model, work, way
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

    def _enter(self) -> None:
        self._model.enter_worker([self._way.how])
        self._model.adapt(self._way.how)

    def _all(self, work: Callable[[], None]) -> None:
        def together() -> None:
            self._start.wait(_LONGEST_WAIT_S)  # else a quick thread would do another's share
            work()

        for done in [self._pool.submit(together) for _ in range(self._way.workers)]:
            done.result()


def _seconds_of_forwards(teams: Sequence[Team], pixels: Tensor) -> list[float]:
    """Of each team the fastest of some turns; they take turns, since the machine is not the same all the time."""
    for team in teams:
        team.seconds(pixels, 1)  # warms up
    single = [team.seconds(pixels, 1) for team in teams]
    counts = [max(1, min(_MOST_FORWARDS, round(_TURN_S / seconds))) for seconds in single]
    turns = [[team.seconds(pixels, count) for team, count in zip(teams, counts, strict=True)] for _ in range(_TURNS)]
    return [min(found) for found in zip(*turns, strict=True)]

"""How to run a network fastest on this machine: how many workers, threads of each, images in a batch. Measured.

What a network runs fastest at a time is a matter of caches: on a CPU 2 images for one and 16 for another. A larger
batch, which costs less of everything else, goes through it in such portions. Several forwards on one thread each are
faster than one on all, but a forward that runs alone is not. What accelerates one network slows another down, and what
is fastest for many images may not be for one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import torch

from oodgate import cuda_graphs
from oodgate.acceleration import How
from oodgate.cores import available_cores
from oodgate.model import Model
from oodgate.rates import Way, Work, measure_rates, team_for
from oodgate.settings import Acceleration

SIZES = cuda_graphs.SIZES
BATCH_COST_S = 0.002
"""Of each batch elsewhere: threads wake, locks change hands, caches are filled anew. Its images share it."""

GOOD_ENOUGH = 0.97
"""The smallest batch with this share of the highest rate is taken: its images wait for fewer others."""

_MOST_WORKERS = 16  # each has its own copies of the network, and all share Python's lock
_CUDA_WORKERS = 4  # the GPU computes for one while the others prepare their batches
_WORKERS_PAY = 0.85
_NEAR = 0.9
_LOOKS, _LOOK_S = 5, 0.15
_ACCELERATION_PAYS = 1.1  # times as fast as without; copies cost memory
_BY_TORCH = How(0)


@dataclass(frozen=True)
class Wishes:
    """What is to be tried, and what is not to be measured since it is decided."""

    accelerations: tuple[Acceleration, ...]
    plain: bool = True  # whether the network as it is may be what is fastest
    workers: int = 0  # 0: measured
    threads: int = 0


@dataclass(frozen=True)
class Tuning:
    """How to run one network on one device."""

    workers: int = 1
    max_batch: int = 16
    many: How = _BY_TORCH  # a batch of `many_from` images or more
    few: How = _BY_TORCH  # a smaller one while others run
    lone: How = _BY_TORCH  # a smaller one that runs alone
    many_from: int = 1
    portion: int = 0  # images of a batch that go through the network at a time; 0: all
    images_per_s: dict[int, float] = field(default_factory=dict)  # by size of a batch, all workers together

    def how(self, images: int, alone: bool) -> How:
        """How a batch is run."""
        if images >= self.many_from and not (alone and images == 1):
            return self.many
        return self.lone if alone else self.few

    @property
    def hows(self) -> set[How]:
        """All of them."""
        return {self.many, self.few, self.lone}

    def change(self, change: Callable[[How], How]) -> Self:
        """The same with each of them changed."""
        return replace(self, many=change(self.many), few=change(self.few), lone=change(self.lone))

    @property
    def rate(self) -> float:
        """The highest number of images per second."""
        return max(self.images_per_s.values())


def measure(model: Model, work: Work, wishes: Wishes) -> Tuning:
    """Time every arrangement of the work that the model's batches are; some seconds for a small network."""
    sizes = sizes_for(model.device)
    if model.device.type == "cuda":
        plain = Way(wishes.workers or _CUDA_WORKERS, wishes.threads)
        return chosen(_rates(model, work, plain, replace(wishes, plain=False), sizes))  # kernels one by one are slower
    plain = _side_by_side(model, work, ways_for(wishes, available_cores()), sizes[::2])
    found = chosen(_rates(model, work, plain, wishes, sizes))
    found = with_portion(found, _forwards(model, found), sizes)
    return found if wishes.threads else _with_lone_forward(model, work, found, wishes)


def ways_for(wishes: Wishes, cores: int) -> list[Way]:
    """Forwards side by side that are to be compared, the network as it is, on no more than the cores if that can be."""
    counts = [wishes.workers] if wishes.workers else worker_counts(cores)
    ways = [Way(count, wishes.threads or max(1, cores // count)) for count in counts]
    return [way for way in ways if way.workers * way.threads <= cores] or ways[:1]


def worker_counts(cores: int) -> list[int]:
    """Numbers of forwards side by side, from one on all cores to one on each."""
    most = min(cores, _MOST_WORKERS)
    return sorted({*(2**power for power in range(most.bit_length())), most})


def _side_by_side(model: Model, work: Work, ways: Sequence[Way], sizes: Sequence[int]) -> Way:
    if len(ways) == 1:
        return ways[0]
    rates = measure_rates(model, work, ways, sizes)
    return {way.workers: way for way in ways}[most_workers({way.workers: max(rates[way].values()) for way in ways})]


def _rates(model: Model, work: Work, plain: Way, wishes: Wishes, sizes: Sequence[int]) -> dict[Way, dict[int, float]]:
    ways = [plain] if wishes.plain else []
    ways += [plain._replace(acceleration=acceleration) for acceleration in wishes.accelerations]
    return measure_rates(model, work, ways, sizes) or measure_rates(model, work, [plain], sizes)


def sizes_for(device: torch.device) -> tuple[int, ...]:
    """Sizes of batches to try; on a CPU larger ones leave its caches."""
    return SIZES if device.type == "cuda" else SIZES[:5]


def chosen(rates: dict[Way, dict[int, float]]) -> Tuning:
    """What is fastest for many images and for one; the first way costs least and is taken unless it is slower."""
    first = next(iter(rates))
    many = preferred(first, {way: max(found.values()) for way, found in rates.items()})
    ones = {way: found[1] for way, found in rates.items()}
    few = preferred(many, {way: ones[way] for way in (many, preferred(first, ones))})
    faster = [size for size, rate in rates[many].items() if rate >= rates[few][size]]
    return Tuning(
        workers=many.workers,
        max_batch=smallest_good(rates[many], many.workers),
        many=many.how,
        few=few.how,
        lone=few.how,
        many_from=min(faster, default=1),
        images_per_s=rates[many],
    )


def _forwards(model: Model, tuning: Tuning) -> dict[int, float]:
    """Images per second of the network alone, at sizes that may be its fastest: long looks tell them apart."""
    near = {size: rate for size, rate in tuning.images_per_s.items() if rate >= _NEAR * tuning.rate}
    quick = [size for size, rate in near.items() if tuning.workers * size / rate <= _LOOK_S] or [min(near)]
    team = team_for(model, model.run, Way(tuning.workers, *tuning.many))
    if team is None:
        return near
    with team:
        looks = [{size: team.images_per_s(model.noise(size), _LOOK_S) for size in quick} for _ in range(_LOOKS)]
    return {size: max(look[size] for look in looks) for size in quick}


def with_portion(tuning: Tuning, forwards: dict[int, float], sizes: Sequence[int]) -> Tuning:
    """The same with the portion, and with larger batches where several portions may make one.

    `forwards` are its images per second by how many it has at a time.
    """
    rates = tuning.images_per_s
    reached = {size: max(rate for smaller, rate in rates.items() if smaller <= size) for size in sizes}
    portion = max(forwards, key=lambda images: forwards[images])
    return replace(tuning, portion=portion, max_batch=smallest_good(reached, tuning.workers))


def preferred(first: Way, rates: dict[Way, float]) -> Way:
    """The fastest, but the first unless that is clearly slower."""
    best = max(rates, key=lambda way: rates[way])
    return best if rates[best] > _ACCELERATION_PAYS * rates[first] else first


def _with_lone_forward(model: Model, work: Work, tuning: Tuning, wishes: Wishes) -> Tuning:
    """How one image runs fastest while nothing else does."""
    acceleration = "none" if wishes.plain else tuning.few.acceleration
    ways = [Way(1, *tuning.few), *(Way(1, threads, acceleration) for threads in (1, available_cores()))]
    rates = measure_rates(model, work, list(dict.fromkeys(ways)), [1])
    if ways[0] not in rates:  # there is no memory for another copy
        return tuning
    return replace(tuning, lone=preferred(ways[0], {way: found[1] for way, found in rates.items()}).how)


def smallest_good(rates: dict[int, float], workers: int) -> int:
    """The smallest size with a rate close to the highest, if every batch of a worker takes a little longer."""
    served = {size: size / (workers * size / rate + BATCH_COST_S) for size, rate in rates.items()}
    return min(size for size, rate in served.items() if rate >= GOOD_ENOUGH * max(served.values()))


def most_workers(rates: dict[int, float]) -> int:
    """The largest number of workers with a rate close to the highest: each opens pictures and scores them as well."""
    return max(count for count, rate in rates.items() if rate >= _WORKERS_PAY * max(rates.values()))

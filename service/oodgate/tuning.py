"""How to run a network fastest on this machine: how many workers, threads of each, images in a batch. Measured.

The best size of a batch is a matter of caches: on a CPU it is often 4 or 8, and 64 is slower. Several forwards on one
thread each are faster than one on all, but a forward that runs alone is not. What accelerates one network slows
another down.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from math import sqrt
from pathlib import Path
from time import perf_counter

import structlog
import torch

from oodgate.acceleration import ACCELERATIONS
from oodgate.model import Model
from oodgate.settings import Acceleration

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
GOOD_ENOUGH = 0.9
"""The smallest batch with this share of the highest rate is taken: a larger one only makes images wait."""

_CPU_SIZES = SIZES[:6]
_GIVE_UP_BELOW = 0.8  # of the highest rate: larger batches will not be faster again
_LONGEST_FORWARD_S = 0.5
_TURN_S, _TURNS, _MOST_FORWARDS = 0.02, 3, 100
_BUDGET_S = 2.0  # of one arrangement: on a busy machine the sizes that were reached have to do
_CUDA_WORKERS = 3  # while one opens pictures, two overlap copies and forwards on their streams
_WORKERS_PAY = 0.85
_ACCELERATION_PAYS = 1.1  # times as fast as without; copies cost memory

log = structlog.stdlib.get_logger("oodgate")


@dataclass(frozen=True)
class Tuning:
    """How to run one network on one device."""

    workers: int = 1
    threads: int = 0  # of a forward on the CPU while others run; 0 leaves it to torch
    lone_threads: int = 0  # of a forward that runs alone
    max_batch: int = 16
    acceleration: Acceleration = "none"
    lone_accelerated: bool = False
    images_per_s: dict[int, float] = field(default_factory=dict)  # by size of a batch, all workers together

    @property
    def accelerated(self) -> bool:
        """Whether each worker has a faster copy of the network."""
        return self.acceleration != "none"

    @property
    def shared(self) -> tuple[int, bool]:
        """Threads, and whether it is accelerated: of a forward while others run."""
        return self.threads, self.accelerated

    @property
    def alone(self) -> tuple[int, bool]:
        """The same of a forward that runs alone."""
        return self.lone_threads, self.accelerated and self.lone_accelerated

    @property
    def rate(self) -> float:
        """The highest number of images per second."""
        return max(self.images_per_s.values())


def tuned(
    model: Model,
    crop: tuple[int, int],
    network_hash: str,
    folder: Path | None,
    accelerations: Sequence[Acceleration] = tuple(ACCELERATIONS),
) -> Tuning:
    """The fastest way; measured once and remembered in a folder, if there is one, by network, device and threads."""
    path = None if folder is None else folder / f"tuning-{_identity(model, network_hash, accelerations)}.json"
    if path and (known := _read(path)):
        return known
    found = measure(model, crop, accelerations)
    if path:
        _remember(path, found)
    return found


def _remember(path: Path, found: Tuning) -> None:
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(asdict(found)))
        partial.replace(path)
    except OSError as error:  # a full disk costs a second at every start, not the service
        log.warning("what was measured cannot be kept", path=str(path), reason=str(error))


def measure(
    model: Model, crop: tuple[int, int], accelerations: Sequence[Acceleration] = tuple(ACCELERATIONS)
) -> Tuning:
    """Time the network in every arrangement; some seconds for a small one."""
    if model.device.type == "cuda":
        rates = measure_rates(model, crop, _CUDA_WORKERS, 0, SIZES)
        return Tuning(_CUDA_WORKERS, 0, 0, smallest_good(rates), images_per_s=rates)
    cores = available_cores()
    found = {
        workers: measure_rates(model, crop, workers, cores // workers, _CPU_SIZES)
        for workers in (2**power for power in range(cores.bit_length()))
    }
    workers = most_workers({count: max(rates.values()) for count, rates in found.items()})
    plain = Tuning(workers, cores // workers, images_per_s=found[workers])
    best = fastest([plain, *_accelerated(model, crop, plain, accelerations)])
    return _with_lone_forward(model, crop, replace(best, max_batch=smallest_good(best.images_per_s)))


def fastest(tunings: Sequence[Tuning]) -> Tuning:
    """The one that is best at one image and at many, but the first, which costs least, unless it is clearly slower."""

    def merit(tuning: Tuning) -> float:
        return sqrt(tuning.images_per_s[1] * tuning.rate)

    best = max(tunings, key=merit)
    return best if merit(best) > _ACCELERATION_PAYS * merit(tunings[0]) else tunings[0]


def _accelerated(
    model: Model, crop: tuple[int, int], plain: Tuning, accelerations: Sequence[Acceleration]
) -> Iterator[Tuning]:
    for acceleration in accelerations:
        if model.accelerate(acceleration, plain.workers, plain.threads):
            rates = measure_rates(model, crop, plain.workers, plain.threads, _CPU_SIZES, accelerated=True)
            yield replace(plain, acceleration=acceleration, images_per_s=rates)


def _with_lone_forward(model: Model, crop: tuple[int, int], tuning: Tuning) -> Tuning:
    """How one image runs fastest while nothing else does."""
    rates = {(threads, False): measure_rates(model, crop, 1, threads, [1])[1] for threads in {1, available_cores()}}
    if model.accelerate(tuning.acceleration, tuning.workers, tuning.threads):
        rates[tuning.threads, True] = measure_rates(model, crop, 1, tuning.threads, [1], accelerated=True)[1]
    threads, accelerated = max(rates, key=lambda way: rates[way])
    return replace(tuning, lone_threads=threads, lone_accelerated=accelerated)


def measure_rates(
    model: Model,
    crop: tuple[int, int],
    workers: int,
    threads: int,
    sizes: Sequence[int],
    accelerated: bool = False,
) -> dict[int, float]:
    """Images per second by size of a batch, up to where larger ones are slower."""
    rates: dict[int, float] = {}
    end = perf_counter() + _BUDGET_S

    def enter() -> None:
        model.enter_worker(accelerated)
        model.adapt(threads, accelerated)

    with ThreadPoolExecutor(workers, initializer=enter) as pool:
        for size in sizes:
            seconds = _seconds_of_forward(pool, workers, model, torch.zeros(size, *crop, 3, dtype=torch.uint8))
            rates[size] = workers * size / seconds
            slower = rates[size] < _GIVE_UP_BELOW * max(rates.values())
            if slower or seconds > _LONGEST_FORWARD_S or perf_counter() > end:
                break
    return rates


def smallest_good(rates: dict[int, float]) -> int:
    """The smallest size with a rate close to the highest."""
    return min(size for size, rate in rates.items() if rate >= GOOD_ENOUGH * max(rates.values()))


def most_workers(rates: dict[int, float]) -> int:
    """The largest number of workers with a rate close to the highest: each opens pictures and scores them as well."""
    return max(count for count, rate in rates.items() if rate >= _WORKERS_PAY * max(rates.values()))


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _seconds_of_forward(pool: ThreadPoolExecutor, workers: int, model: Model, pixels: torch.Tensor) -> float:
    """Of one forward while all workers run, the fastest of some turns; a turn is long enough to be timed."""

    def forwards(count: int) -> None:
        for _ in range(count):
            model.run(pixels)
        model.synchronize()

    def turn(count: int) -> float:
        start = perf_counter()
        for done in [pool.submit(forwards, count) for _ in range(workers)]:
            done.result()
        return (perf_counter() - start) / count

    turn(2)  # warms up
    count = max(1, min(_MOST_FORWARDS, round(_TURN_S / turn(1))))
    return min(turn(count) for _ in range(_TURNS))


def _identity(model: Model, network_hash: str, accelerations: Sequence[Acceleration]) -> str:
    device = torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else f"{available_cores()} cores"
    facts = (network_hash, device, model.precision, str(torch.__version__), tuple(accelerations))
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def _read(path: Path) -> Tuning | None:
    try:
        record = json.loads(path.read_text())
        record["images_per_s"] = {int(size): float(rate) for size, rate in record["images_per_s"].items()}
        return Tuning(**record)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # absent or damaged: it is measured anew

"""How to run a network fastest on this machine: how many workers, threads of each, images in a batch. Measured.

The best size of a batch is a matter of caches: on a CPU it is often 4 or 8, and 64 is slower. Several forwards on one
thread each are faster than one on all, but a forward that runs alone is not. What accelerates one network slows
another down.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from math import sqrt
from pathlib import Path

import structlog
import torch

from oodgate.acceleration import ACCELERATIONS
from oodgate.model import Model
from oodgate.rates import Way, Work, measure_rates
from oodgate.settings import Acceleration

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
GOOD_ENOUGH = 0.93
"""The largest batch with this share of the highest rate is taken: its images share what each batch costs elsewhere."""

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
    work: Work,
    crop: tuple[int, int],
    network_hash: str,
    folder: Path | None,
    accelerations: Sequence[Acceleration] = tuple(ACCELERATIONS),
) -> Tuning:
    """The fastest way; measured once and remembered in a folder, if there is one, by network, device and threads."""
    path = None if folder is None else folder / f"tuning-{_identity(model, network_hash, accelerations)}.json"
    if path and (known := _read(path)):
        return known
    found = measure(model, work, crop, accelerations)
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
    model: Model, work: Work, crop: tuple[int, int], accelerations: Sequence[Acceleration] = tuple(ACCELERATIONS)
) -> Tuning:
    """Time every arrangement of the work that the model's batches are; some seconds for a small network."""
    sizes = sizes_for(model.device)
    if model.device.type == "cuda":
        way = Way(_CUDA_WORKERS, 0)
        return _tuning(way, measure_rates(model, work, crop, [way], sizes)[way])
    cores = available_cores()
    ways = [Way(workers, cores // workers) for workers in (2**power for power in range(cores.bit_length()))]
    rates = measure_rates(model, work, crop, ways, sizes[::2])
    workers = most_workers({way.workers: max(rates[way].values()) for way in ways})
    plain = Way(workers, cores // workers)
    ways = [plain, *(plain._replace(acceleration=acceleration) for acceleration in accelerations)]
    rates = measure_rates(model, work, crop, ways, sizes)
    best = fastest([_tuning(way, found) for way, found in rates.items()])
    return _with_lone_forward(model, work, crop, best)


def sizes_for(device: torch.device) -> tuple[int, ...]:
    """Sizes of batches to try; on a CPU larger ones leave its caches."""
    return SIZES if device.type == "cuda" else SIZES[:6]


def fastest(tunings: Sequence[Tuning]) -> Tuning:
    """The one that is best at one image and at many, but the first, which costs least, unless it is clearly slower."""

    def merit(tuning: Tuning) -> float:
        return sqrt(tuning.images_per_s[1] * tuning.rate)

    best = max(tunings, key=merit)
    return best if merit(best) > _ACCELERATION_PAYS * merit(tunings[0]) else tunings[0]


def _tuning(way: Way, rates: dict[int, float]) -> Tuning:
    return Tuning(way.workers, way.threads, way.threads, largest_good(rates), way.acceleration, False, rates)


def _with_lone_forward(model: Model, work: Work, crop: tuple[int, int], tuning: Tuning) -> Tuning:
    """How one image runs fastest while nothing else does."""
    ways = {Way(1, 1), Way(1, available_cores()), Way(1, tuning.threads, tuning.acceleration)}
    rates = measure_rates(model, work, crop, list(ways), [1])
    way = max(rates, key=lambda way: rates[way][1])
    return replace(tuning, lone_threads=way.threads, lone_accelerated=way.accelerated)


def largest_good(rates: dict[int, float]) -> int:
    """The largest size with a rate close to the highest."""
    return max(size for size, rate in rates.items() if rate >= GOOD_ENOUGH * max(rates.values()))


def most_workers(rates: dict[int, float]) -> int:
    """The largest number of workers with a rate close to the highest: each opens pictures and scores them as well."""
    return max(count for count, rate in rates.items() if rate >= _WORKERS_PAY * max(rates.values()))


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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

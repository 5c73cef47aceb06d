"""The limit: what decoding and the network alone reach on this machine, with nothing of a server around them."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import count, product
from time import perf_counter
from typing import Any

import torch

from oodgate.acceleration import ACCELERATIONS
from oodgate.api.predict import file_picture
from oodgate.bench.pictures import ImageFile
from oodgate.bench.process import cores
from oodgate.bundle import Bundle
from oodgate.images.preprocess import preprocess
from oodgate.model import Model
from oodgate.settings import Acceleration, Settings

BATCHES = (1, 2, 4, 8, 16, 32)
ACCELERATED: tuple[Acceleration, ...] = ("none", *ACCELERATIONS)

Progress = Callable[[int], None]
Work = Callable[[], int]
"""Does something to some images and returns how many."""


@dataclass(frozen=True)
class Forward:
    """Images a second through the network, `forwards` at a time with `threads` each, where 0 leaves it to torch."""

    batch: int
    forwards: int
    threads: int
    acceleration: Acceleration
    images_per_s: float


@dataclass(frozen=True)
class Limit:
    """The parts alone, and both together."""

    device: str
    decode_threads: int
    decode_per_s: float
    forwards: tuple[Forward, ...]

    @property
    def best(self) -> Forward:
        """The fastest way to run the network."""
        return max(self.forwards, key=lambda forward: forward.images_per_s)

    @property
    def images_per_s(self) -> float:
        """What no service on this machine can exceed."""
        return combine(self.best.images_per_s, self.decode_per_s, shared=self.device == "cpu")

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        return asdict(self) | {"best": asdict(self.best), "images_per_s": self.images_per_s}


def combine(forward: float, decode: float, shared: bool) -> float:
    """Images a second of both: their times add up on the same cores, else the slower one decides."""
    return 1 / (1 / forward + 1 / decode) if shared else min(forward, decode)


def steps(device: torch.device) -> int:
    """How many measurements `measure_limit` makes."""
    return 1 + len(ACCELERATED) * len(arrangements(device)) * len(batches(device))


def measure_limit(
    bundle: Bundle, settings: Settings, files: Sequence[ImageFile], duration_s: float, progress: Progress
) -> Limit:
    """Measure the decoding for `duration_s`, and each way to run the network for a quarter of it."""
    decode_per_s = images_per_s(decoding(bundle, settings, files), cores(), duration_s)
    progress(1)
    model = Model(bundle, settings.device, settings.precision)
    forwards = []
    ways = product(arrangements(model.device), batches(model.device), ACCELERATED)
    for (parallel, threads), batch, acceleration in ways:
        if acceleration == "none" or model.accelerate(acceleration, parallel, threads):
            how = Forward(batch, parallel, threads, acceleration, 0)
            forwards.append(_measure_forward(model, bundle, how, duration_s / 4))
        progress(1)
    return Limit(model.device.type, cores(), decode_per_s, tuple(forwards))


def arrangements(device: torch.device) -> list[tuple[int, int]]:
    """How many forwards at a time, with how many threads each; 0 leaves the threads to torch."""
    if device.type == "cuda":
        return [(1, 0), (2, 0)]
    powers = (2**power for power in range(cores().bit_length()))
    return [(forwards, cores() // forwards) for forwards in sorted({*powers, cores()})]


def batches(device: torch.device) -> tuple[int, ...]:
    """Sizes of batches to try; on a CPU larger ones leave its caches."""
    return (*BATCHES, 64, 128, 256) if device.type == "cuda" else BATCHES


def decoding(bundle: Bundle, settings: Settings, files: Sequence[ImageFile]) -> Work:
    """The service's own way from an image file to the network's input, over the files in turn."""
    turns = count()

    def decode_next() -> int:
        file = files[next(turns) % len(files)]
        preprocess(file_picture(file.data, settings)(), bundle.manifest.preprocessing)
        return 1

    return decode_next


def images_per_s(work: Work, threads: int, duration_s: float, prepare: Callable[[], None] = lambda: None) -> float:
    """Repeat the work in as many threads for some time; each first runs `prepare` and the work once."""

    def repeat() -> float:
        prepare()
        work()
        start, done = perf_counter(), 0
        while (elapsed := perf_counter() - start) < duration_s or not done:
            done += work()
        return done / elapsed if elapsed else 0.0

    with ThreadPoolExecutor(threads) as pool:
        return sum(running.result() for running in [pool.submit(repeat) for _ in range(threads)])


def _measure_forward(model: Model, bundle: Bundle, how: Forward, duration_s: float) -> Forward:
    height, width = bundle.manifest.preprocessing.crop
    pixels = torch.randint(0, 256, (how.batch, height, width, 3), dtype=torch.uint8)

    def forward() -> int:
        model.run(pixels)
        model.synchronize()
        return how.batch

    def prepare() -> None:
        accelerated = how.acceleration != "none"
        model.enter_worker(accelerated)
        model.adapt(how.threads, accelerated)

    with torch_threads_kept():
        rate = images_per_s(forward, how.forwards, duration_s, prepare)
    return replace(how, images_per_s=rate)


@contextmanager
def torch_threads_kept() -> Iterator[None]:
    """Give torch its number of threads back."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)

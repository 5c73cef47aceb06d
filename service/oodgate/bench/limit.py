"""The limit: what decoding and the network alone reach on this machine, with nothing of a server around them."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import count, product
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from oodgate.api.predict import file_picture
from oodgate.bench.pictures import ImageFile
from oodgate.bundle import Bundle
from oodgate.cores import available_cores
from oodgate.errors import RequestError
from oodgate.model import Model, device_for
from oodgate.pixels import opener_of
from oodgate.rates import Team, Way, measure_rates, team_for
from oodgate.settings import Acceleration, Settings
from oodgate.tuning import sizes_for, worker_counts

Progress = Callable[[int], None]
Work = Callable[[], int]
"""Does something to some images and returns how many."""

_DECODED_TOGETHER = 16  # on a device
_CUDA_WORKERS = (1, 2, 3)  # with graphs; without them each thread plans every size of batch, which takes long


@dataclass(frozen=True)
class Limit:
    """The parts alone, and both together."""

    device: str
    decode_threads: int
    decode_per_s: float
    way: Way
    batch: int
    forward_per_s: float

    @property
    def images_per_s(self) -> float:
        """What no service on this machine can exceed."""
        return combine(self.forward_per_s, self.decode_per_s, shared=self.device == "cpu")

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        return asdict(self) | {"way": self.way._asdict(), "images_per_s": self.images_per_s}


def combine(forward: float, decode: float, shared: bool) -> float:
    """Images a second of both: their times add up on the same cores, else the slower one decides."""
    return 1 / (1 / forward + 1 / decode) if shared else min(forward, decode)


class Parts:
    """Decoding and the network of a bundle, run as fast as they can be, to be measured again and again."""

    def __init__(self, decode: Work, team: Team, pixels: Tensor, device: str) -> None:
        self._decode, self._team = decode, team
        self._pixels, self._device = pixels, device

    def measure(self, duration_s: float) -> Limit:
        """Each part for so long, or once."""
        threads = available_cores()
        decode_per_s = images_per_s(self._decode, threads, duration_s)
        forward_per_s = self._team.images_per_s(self._pixels, duration_s)
        return Limit(self._device, threads, decode_per_s, self._team.way, len(self._pixels), forward_per_s)


@contextmanager
def parts_of(bundle: Bundle, settings: Settings, files: Sequence[ImageFile]) -> Iterator[Parts]:
    """Find the fastest way to run the network; the service's own way from a file to its input is the only one."""
    model = Model(bundle, settings.device, settings.precision)
    with forward_alone(model) as (team, pixels):
        yield Parts(decoding(bundle, settings, files), team, pixels, model.device.type)


@contextmanager
def forward_alone(model: Model) -> Iterator[tuple[Team, Tensor]]:
    """The network run in its fastest way, and the pixels of the best batch, on the device already."""
    ways = ways_of(model.device, ("none", *model.accelerations))
    way, batch = fastest(measure_rates(model, model.run, ways, sizes_for(model.device), on_device=True))
    team = team_for(model, model.run, way)
    if team is None:
        raise RuntimeError(f"the network ran as {way} and does not any more")
    with team:
        yield team, model.noise(batch).to(model.device)


def ways_of(device: torch.device, hows: Sequence[Acceleration]) -> list[Way]:
    """All ways to try: from one forward on all cores to one on each; on a GPU the threads are left to torch."""
    if device.type == "cuda":
        faster = [how for how in hows if how != "none"]
        return [Way(1, 0), *(Way(workers, 0, how) for workers, how in product(_CUDA_WORKERS, faster))]
    cores = available_cores()
    return [Way(number, cores // number, how) for number, how in product(worker_counts(cores), hows)]


def fastest(rates: dict[Way, dict[int, float]]) -> tuple[Way, int]:
    """The way and the size of a batch with the highest rate."""
    return max(((way, size) for way, found in rates.items() for size in found), key=lambda one: rates[one[0]][one[1]])


def decoding(bundle: Bundle, settings: Settings, files: Sequence[ImageFile]) -> Work:
    """The service's own way from an image file to the network's input, over the files in turn."""
    opener = opener_of(bundle.manifest.preprocessing, settings.decoding, device_for(bundle, settings.device))
    turns, together = count(), 1 if settings.decoding == "host" else _DECODED_TOGETHER

    def decode_next() -> int:
        pictures = [file_picture(files[next(turns) % len(files)].data, settings) for _ in range(together)]
        for found in opener.open(pictures):
            if isinstance(found, RequestError):
                raise found
        return together

    return decode_next


def images_per_s(work: Work, threads: int, duration_s: float) -> float:
    """Repeat the work in as many threads for some time; each does it once before."""

    def repeat() -> float:
        work()
        start, done = perf_counter(), 0
        while (elapsed := perf_counter() - start) < duration_s or not done:
            done += work()
        return done / elapsed if elapsed else 0.0

    with ThreadPoolExecutor(threads) as pool:
        return sum(running.result() for running in [pool.submit(repeat) for _ in range(threads)])

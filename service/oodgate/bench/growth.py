"""How throughput and latency grow: with the number of clients, the size of images, the limit of a batch, fronts."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from oodgate.bench.limit import Progress
from oodgate.bench.pictures import THUMBNAIL, ImageFile, files_for, photographs, thumbnails
from oodgate.bench.served import Row, Service, serving
from oodgate.bundle import load_bundle
from oodgate.fronts.device import obstacle_to_fronts
from oodgate.settings import Settings

CLIENTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
SIZES = (THUMBNAIL, (64, 64), (128, 128), (256, 256), (500, 375), (1024, 768), (2048, 1536), (4000, 3000))
BATCHES = (1, 2, 4, 8, 16, 32, 64)
FRONTS = (0, 1, 2, 4)
STEPS = len(CLIENTS) + len(SIZES) + len(BATCHES) + len(FRONTS)

_CLIENTS_BY_SIZE = 16
_CLIENTS_BY_BATCH = 64
_CLIENTS_BY_FRONTS = 64
_GENERATED_PIXELS = 24_000_000  # all files of one size together


@dataclass(frozen=True)
class Point:
    """One value of what is varied, and its load."""

    value: float  # clients, megapixels, images or processes
    row: Row


@dataclass(frozen=True)
class Growth:
    """Curves by what is varied."""

    clients: tuple[Point, ...]
    megapixels: tuple[Point, ...]
    max_batch: tuple[Point, ...]
    fronts: tuple[Point, ...]

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        return asdict(self)


def measure_growth(settings: Settings, where: str | None, duration_s: float, progress: Progress) -> Growth:
    """Measure all curves one after the other, each value with a load of its own."""
    files = files_for(load_bundle(settings.bundle, settings.trusted_keys).manifest, where, settings)
    with TemporaryDirectory() as folder:
        state = Path(folder)  # the first service measures how the network is run, and the others are to run it so too
        with serving(settings, files, state=state) as service:
            clients = tuple(_by_clients(service, duration_s, progress))
        return Growth(
            clients,
            tuple(_by_size(settings, state, duration_s, progress)),
            tuple(_by_batch(settings, files, duration_s, progress)),
            tuple(_by_fronts(settings, files, state, duration_s, progress)),
        )


def save_growth(growth: Growth, folder: Path) -> None:
    """growth.json and growth.png."""
    from oodgate.bench.plots import plot_growth

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "growth.json").write_text(json.dumps(growth.as_dict(), indent=1) + "\n")
    plot_growth(growth).savefig(folder / "growth.png")


def _by_clients(service: Service, duration_s: float, progress: Progress) -> Iterator[Point]:
    for clients in CLIENTS:
        yield Point(clients, service.closed(clients, duration_s))
        progress(1)


def _by_size(settings: Settings, state: Path, duration_s: float, progress: Progress) -> Iterator[Point]:
    for width, height in SIZES:
        with serving(settings, _files_of(width, height), state=state) as service:
            yield Point(width * height / 1e6, service.closed(_CLIENTS_BY_SIZE, duration_s))
        progress(1)


def _by_batch(settings: Settings, files: Sequence[ImageFile], duration_s: float, progress: Progress) -> Iterator[Point]:
    for most in BATCHES:
        with serving(settings.model_copy(update={"max_batch": most}), files) as service:
            yield Point(most, service.closed(_CLIENTS_BY_BATCH, duration_s))
        progress(1)


def _by_fronts(
    settings: Settings, files: Sequence[ImageFile], state: Path, duration_s: float, progress: Progress
) -> Iterator[Point]:
    for fronts in FRONTS if obstacle_to_fronts(settings) is None else (0,):
        with serving(settings.model_copy(update={"fronts": fronts}), files, state=state) as service:
            yield Point(fronts, service.closed(_CLIENTS_BY_FRONTS, duration_s))
        progress(1)


def _files_of(width: int, height: int) -> list[ImageFile]:
    number = max(2, min(32, _GENERATED_PIXELS // (width * height)))
    return thumbnails(number) if (width, height) == THUMBNAIL else photographs(width, height, number)

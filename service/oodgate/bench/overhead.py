"""What the server costs without the work: the same service, with a gate that does nothing in the place of its own.

Run as a module this is the service; the measurement starts it as a child. Only the gate's judging and the opening of
pictures are left out: HTTP, limits, threads, queue, worker, metrics, logs and answers are the service's own.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import Any

import numpy as np

from oodgate.api import loading, repository, server
from oodgate.api.judging import Picture
from oodgate.api.predictor import Predictor
from oodgate.bench.limit import Progress
from oodgate.bench.pictures import ImageFile
from oodgate.bench.served import Row, answered, serving
from oodgate.bundle import Bundle
from oodgate.errors import InferenceFailed
from oodgate.gate import Gate, Verdict
from oodgate.images.opening import Opened
from oodgate.pixels import Pixels
from oodgate.settings import Device, Precision, Settings

CLIENTS = 64
SHARE = 0.7
"""Rate of the open loop, as a share of what the closed loop reached."""
BODY_BYTES = 95_000
STEPS = 2

_OPENED = Opened(np.zeros((1, 1, 3), dtype=np.uint8), decode_ms=0.0)


@dataclass(frozen=True)
class Overhead:
    """The closed loop at its capacity, and arrivals below it."""

    rows: tuple[Row, ...]

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        return asdict(self)


def measure_overhead(settings: Settings, duration_s: float, progress: Progress) -> Overhead:
    """Load a service that does nothing with bodies of the size of photographs."""
    body = np.random.default_rng(0).bytes(BODY_BYTES)
    with serving(settings, [ImageFile(body, settings.content_types[0])], module=__name__) as service:
        closed = answered(service.closed(CLIENTS, duration_s))
        progress(1)
        opened = service.open(SHARE * closed.requests_per_s, duration_s)
        progress(1)
    return Overhead((closed, opened))


class IdleGate(Gate):
    """Gives every image the verdict on a black one."""

    def __init__(self, bundle: Bundle, device: Device = "auto", precision: Precision = "float32") -> None:
        self._verdict_on_black: Verdict | InferenceFailed | None = None
        super().__init__(bundle, device, precision)
        height, width = self.manifest.preprocessing.crop
        (self._verdict_on_black,) = super().judge([np.zeros((height, width, 3), dtype=np.uint8)])

    def judge(self, images: Sequence[Pixels]) -> list[Verdict | InferenceFailed]:
        """The same for all."""
        if self._verdict_on_black is None:
            return super().judge(images)
        return [self._verdict_on_black] * len(images)


class IdlePredictor(Predictor):
    """Opens no picture."""

    def submit(self, picture: Picture, *rest: Any, **named: Any) -> None:
        """What is open already in the place of the picture."""
        super().submit(_OPENED, *rest, **named)


def put(module: ModuleType, name: str, replacement: type) -> None:
    """Let a module of this process use a subclass of what it uses under this name."""
    if not issubclass(replacement, getattr(module, name)):
        raise TypeError(f"{replacement.__name__} cannot take the place of {module.__name__}.{name}")
    setattr(module, name, replacement)


if __name__ == "__main__":
    put(loading, "Gate", IdleGate)
    put(repository, "Predictor", IdlePredictor)
    server.serve(Settings())

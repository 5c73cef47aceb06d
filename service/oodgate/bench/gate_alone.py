"""The gate in this process, fed with pixels, against the bare forward: what batches, scores and verdicts cost.

Both take turns. On a GPU the forward's pixels are there already, and the gate has to bring its own.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from torch import Tensor

from oodgate.api.loading import open_model
from oodgate.api.server import share_interpreter
from oodgate.bench.limit import Progress, forward_alone
from oodgate.bundle import load_bundle
from oodgate.errors import SetupError
from oodgate.gate import Gate
from oodgate.model import Model
from oodgate.rates import Team, Way
from oodgate.settings import Settings


@dataclass(frozen=True)
class Part:
    """How one of the two is run, and its rate in every round."""

    way: Way
    batch: int
    images_per_s: tuple[float, ...]

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        return asdict(self) | {"way": self.way._asdict()}


@dataclass(frozen=True)
class GateAlone:
    """The bare forward and the whole gate."""

    device: str
    precision: str
    forward: Part
    gate: Part

    @property
    def ratio(self) -> float:
        """The gate's rate over the forward's: the median of the rounds."""
        rates = zip(self.gate.images_per_s, self.forward.images_per_s, strict=True)
        return median(gate / forward for gate, forward in rates)

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        parts = {"forward": self.forward.as_dict(), "gate": self.gate.as_dict()}
        return {"device": self.device, "precision": self.precision, **parts, "ratio": self.ratio}


def measure_gate(settings: Settings, duration_s: float, rounds: int, progress: Progress) -> GateAlone:
    """Run both for so long in every round; raises SetupError where the bundle cannot be served."""
    model = Model(load_bundle(settings.bundle, settings.trusted_keys), settings.device, settings.precision)
    share_interpreter()
    rates: list[tuple[float, float]] = []
    with forward_alone(model) as (forward, pixels), _gate_at_work(settings) as (gate, pictures):
        for turn in range(rounds):
            both = [(forward, pixels), (gate, pictures)]
            found = {team: team.images_per_s(images, duration_s) for team, images in both[:: 1 if turn % 2 else -1]}
            rates.append((found[forward], found[gate]))
            progress(1)
        of_forward, of_gate = zip(*rates, strict=True)
        return GateAlone(
            model.device.type,
            model.precision,
            Part(forward.way, len(pixels), of_forward),
            Part(gate.way, len(pictures), of_gate),
        )


@contextmanager
def _gate_at_work(settings: Settings) -> Iterator[tuple[Team, Tensor]]:
    """The gate as the service runs it, in as many workers, and the pixels of its batch."""
    opened = open_model(settings.bundle, settings)
    if opened.gate is None:
        raise SetupError(opened.reason or "the bundle cannot be served")
    gate, tuning = opened.gate, opened.gate.tuning
    way = Way(tuning.workers, *tuning.many)
    with Team(gate.model, lambda pixels: judge(gate, pixels), way, tuning.portion) as team:
        yield team, gate.model.noise(tuning.max_batch)


def judge(gate: Gate, pixels: Tensor) -> None:
    """Judge images as they come from clients: each an array of its own."""
    gate.judge(list(pixels.numpy()))

"""What every score costs, beside the forward that it reads: measured, in one run, alternating."""

from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch

from oodgate.bundle import Bundle
from oodgate.model import Model
from oodgate.offline.features import Progress
from oodgate.scores.forward import Forward
from oodgate.scores.registry import (
    METHODS,
    SCORERS,
    State,
    combine_terms,
    compute_terms,
    fit_methods,
    fit_scorer,
    terms_of,
)
from oodgate.scores.statistics import BANK_SIZE, StatisticsAccumulator
from oodgate.settings import Device, Precision

_W = 0.5


@dataclass(frozen=True)
class ScoreCost:
    """Median time of one scorer on one batch, and its share of the forward's, in percent."""

    scorer: str
    score_ms: float
    share: float


@dataclass(frozen=True)
class Costs:
    """All scorers on one batch."""

    device: str
    images: int
    forward_ms: float
    scores: tuple[ScoreCost, ...]


def measure_costs(
    bundle: Bundle, device: Device, precision: Precision, images: int, rounds: int, progress: Progress
) -> Costs:
    """Time the forward and every scorer in turn, `rounds` times; what has to be fitted is fitted on random features."""
    model = Model(bundle, device, precision)
    height, width = bundle.manifest.preprocessing.crop
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, height, width, 3), dtype=torch.uint8, generator=generator)
    state = {name: tensor.to(model.device) for name, tensor in _fitted_state(bundle, model, pixels).items()}
    forwards, scores = [], np.zeros((rounds, len(SCORERS)))
    for turn in range(rounds):
        forward, forward_ms = _time_forward(model, pixels)
        forwards.append(forward_ms)
        scores[turn] = [_time_score(model, scorer, forward, state) for scorer in SCORERS]
        progress(1)
    forward_ms = float(np.median(forwards))
    medians = np.median(scores, axis=0)
    rows = (ScoreCost(name, float(ms), 100 * float(ms) / forward_ms) for name, ms in zip(SCORERS, medians, strict=True))
    return Costs(str(model.device), images, forward_ms, tuple(rows))


def _time_forward(model: Model, pixels: torch.Tensor) -> tuple[Forward, float]:
    start = perf_counter()
    forward = model.run(pixels)
    model.synchronize()
    return forward, 1000 * (perf_counter() - start)


def _time_score(model: Model, scorer: str, forward: Forward, state: State) -> float:
    """Milliseconds of one scorer on answers of which nothing is computed yet."""
    fresh = Forward(forward.logits, forward.activation)
    start = perf_counter()
    with torch.inference_mode():
        terms = compute_terms(terms_of(scorer), {}, fresh, state)
        combine_terms(scorer, _W, terms, state)
    model.synchronize()
    return 1000 * (perf_counter() - start)


def _fitted_state(bundle: Bundle, model: Model, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    """A state in which every scorer works, with a bank of full size."""
    outputs = bundle.manifest.outputs
    classes, channels = outputs.logits[0], outputs.activation[0]
    generator = torch.Generator().manual_seed(0)
    statistics = StatisticsAccumulator(channels, classes)
    statistics.add(torch.rand(BANK_SIZE, channels, generator=generator), torch.arange(BANK_SIZE) % classes)
    state = {**bundle.state, **fit_methods(METHODS, statistics.finish(), bundle.state, {})}
    forward = model.run(pixels)
    with torch.inference_mode():
        on_device = {name: tensor.to(model.device) for name, tensor in state.items()}
        for scorer in SCORERS:
            terms = compute_terms(terms_of(scorer), {}, forward, on_device)
            state |= fit_scorer(scorer, terms)
    return state

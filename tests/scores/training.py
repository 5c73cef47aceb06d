"""A small trained network in numbers: five classes of eight channels each, images it knows and images it does not.

Shared by the tests of the scores: `familiar` and `strange` images, and `STATE`, everything fitted on familiar ones.
"""

import torch
from torch import Tensor

from oodgate.scores.forward import Forward
from oodgate.scores.registry import COMBINED, METHODS, combine_terms, compute_terms, fit_methods, fit_scorer, terms_of
from oodgate.scores.statistics import Statistics, StatisticsAccumulator

CLASSES, GROUP, SIDE = 5, 8, 4
CHANNELS = CLASSES * GROUP
PARAMETERS = {"knn.k": 8.0}
W = 0.5


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def classifier() -> dict[str, Tensor]:
    weight = torch.eye(CLASSES).repeat_interleave(GROUP, 1) - 0.2  # (K, C)
    noise = 0.05 * torch.randn(CLASSES, CHANNELS, generator=seeded(1))
    return {"classifier.weight": weight + noise, "classifier.bias": torch.linspace(-0.1, 0.1, CLASSES)}


CLASSIFIER = classifier()


def forward_of(activation: Tensor) -> Forward:
    logits = activation.mean((2, 3)) @ CLASSIFIER["classifier.weight"].T + CLASSIFIER["classifier.bias"]
    return Forward(logits, activation)


def features_of(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Features (n, C) with the channels of one class high, and the classes (n,)."""
    classes = torch.arange(count) % CLASSES
    high = 2 * torch.eye(CLASSES)[classes].repeat_interleave(GROUP, 1) + 0.1
    return high * (0.5 + torch.rand(count, CHANNELS, generator=seeded(seed))), classes


def familiar(count: int, seed: int) -> Forward:
    """The channels of one class, each with its whole mass in one place."""
    features, _ = features_of(count, seed)
    places = torch.randint(SIDE * SIDE, features.shape, generator=seeded(seed))
    peaks = torch.nn.functional.one_hot(places, SIDE * SIDE) * SIDE * SIDE * features[:, :, None]
    return forward_of(peaks.unflatten(2, (SIDE, SIDE)).float())


def strange(count: int, seed: int) -> Forward:
    """Weak channels, mixed over the classes, each spread evenly over the image."""
    features, _ = features_of(count, seed)
    mixed = features.unflatten(1, (CLASSES, GROUP)).transpose(1, 2).flatten(1)  # a class's channels go to all classes
    return forward_of((0.3 * mixed)[:, :, None, None].expand(-1, -1, SIDE, SIDE).contiguous())


def statistics_of(count: int = 200, bank_size: int = 150) -> Statistics:
    features, classes = features_of(count, seed=2)
    accumulator = StatisticsAccumulator(CHANNELS, CLASSES, bank_size)
    accumulator.add(features, classes)
    return accumulator.finish()


def fitted_state() -> dict[str, Tensor]:
    state = CLASSIFIER | fit_methods(METHODS, statistics_of(), CLASSIFIER, PARAMETERS)
    reference = compute_terms(METHODS, PARAMETERS, familiar(100, seed=3), state)
    for scorer in COMBINED:
        state |= fit_scorer(scorer, reference)
    return state


STATE = fitted_state()


def score(scorer: str, forward: Forward, state: dict[str, Tensor] = STATE) -> Tensor:
    terms = compute_terms(terms_of(scorer), PARAMETERS, forward, state)
    return combine_terms(scorer, W, terms, state)

"""The table of methods: what each computes from a forward, what it needs, how it is fitted.

Adding a score is one file beside this one and one entry here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from oodgate.scores.ash import ash_b, ash_p, ash_s
from oodgate.scores.dice import MASK, dice, fit_dice
from oodgate.scores.energy import energy
from oodgate.scores.fdbd import INVERSE, MEAN, fdbd, fit_fdbd
from oodgate.scores.forward import Forward
from oodgate.scores.gen import gen, gen_positive
from oodgate.scores.knn import BANK, K, fit_knn, knn, knn_positive
from oodgate.scores.mahalanobis import CENTRE, MEANS, WHITENING, fit_mahalanobis, mahalanobis, mahalanobis_positive
from oodgate.scores.mls import mls
from oodgate.scores.msp import msp
from oodgate.scores.nap import nap, nap_minus, nap_unsquared, nap_variance
from oodgate.scores.react import CLIP, fit_react, react
from oodgate.scores.scale import scale
from oodgate.scores.statistics import Statistics

State = Mapping[str, Tensor]
"""Tensors of the bundle by name: the classifier's weights and what was fitted."""

Parameters = Mapping[str, float]
"""Settings of one method by name."""

WEIGHT, BIAS = "classifier.weight", "classifier.bias"
"""Names of the last layer's tensors (K, C) and (K,), which come with the network."""

_CLASSIFIER = (WEIGHT, BIAS)

RANGES: Mapping[str, tuple[float, float]] = {
    "eps": (1e-6, 1e6),
    "temperature": (1e-3, 1e3),
    "gamma": (1e-3, 1e3),
    "top": (1, 1e9),
    "percentile": (0, 100),
    "k": (1, 1e9),
    "ridge": (0, 1e3),
}
"""The least and the most that a setting may be, by its name without the method's: beyond it no score says anything."""


def _unchanged(score: Tensor) -> Tensor:
    return score


@dataclass(frozen=True)
class Method:
    """One method: its score (N,) of a forward, higher for in-distribution images, and what belongs to it."""

    score: Callable[[Forward, State, Parameters], Tensor]
    defaults: Parameters = field(default_factory=dict)  # settings that reproduce the literature
    positive: Callable[[Tensor], Tensor] = _unchanged  # the rising function of the score that a product takes
    needs: tuple[str, ...] = ()  # tensors of the state
    reads_features: bool = False  # the pooled activation, which means nothing where the activation is attention
    in_chunks: bool = False  # takes large batches part by part
    fit: Callable[[Statistics, State, Parameters], dict[str, Tensor]] | None = None


METHODS: dict[str, Method] = {
    "nap": Method(lambda f, s, p: nap(f.activation, f.features, p["eps"]), {"eps": 1.0}),
    "nap_variance": Method(lambda f, s, p: nap_variance(f.activation, f.features)),
    "nap_unsquared": Method(lambda f, s, p: nap_unsquared(f.activation, f.features, p["eps"]), {"eps": 1.0}),
    "nap_minus": Method(lambda f, s, p: nap_minus(f.activation, f.features)),
    "msp": Method(lambda f, s, p: msp(f.logits)),
    "energy": Method(lambda f, s, p: energy(f.logits, p["temperature"]), {"temperature": 1.0}),
    "mls": Method(lambda f, s, p: mls(f.logits)),
    "gen": Method(
        lambda f, s, p: gen(f.logits, p["gamma"], int(p["top"])), {"gamma": 0.1, "top": 100}, positive=gen_positive
    ),
    "react": Method(
        lambda f, s, p: react(f.features, s[WEIGHT], s[BIAS], s[CLIP]),
        {"percentile": 90},
        needs=(*_CLASSIFIER, CLIP),
        fit=lambda statistics, s, p: fit_react(statistics, p["percentile"]),
        reads_features=True,
    ),
    "dice": Method(
        lambda f, s, p: dice(f.features, s[WEIGHT], s[BIAS], s[MASK]),
        {"percentile": 90},
        needs=(*_CLASSIFIER, MASK),
        fit=lambda statistics, s, p: fit_dice(statistics, s[WEIGHT], p["percentile"]),
        reads_features=True,
    ),
    "ash": Method(
        lambda f, s, p: ash_s(f.features, s[WEIGHT], s[BIAS], p["percentile"]),
        {"percentile": 95},
        needs=_CLASSIFIER,
        reads_features=True,
    ),
    "ash-b": Method(
        lambda f, s, p: ash_b(f.features, s[WEIGHT], s[BIAS], p["percentile"]),
        {"percentile": 95},
        needs=_CLASSIFIER,
        reads_features=True,
    ),
    "ash-p": Method(
        lambda f, s, p: ash_p(f.features, s[WEIGHT], s[BIAS], p["percentile"]),
        {"percentile": 95},
        needs=_CLASSIFIER,
        reads_features=True,
    ),
    "scale": Method(
        lambda f, s, p: scale(f.features, s[WEIGHT], s[BIAS], p["percentile"]),
        {"percentile": 85},
        needs=_CLASSIFIER,
        reads_features=True,
    ),
    "knn": Method(
        lambda f, s, p: knn(f.unit_features, s[BANK], int(s[K])),
        {"k": 50},
        positive=knn_positive,
        needs=(BANK, K),
        fit=lambda statistics, s, p: fit_knn(statistics, p["k"]),
        reads_features=True,
        in_chunks=True,
    ),
    "fdbd": Method(
        lambda f, s, p: fdbd(f.logits, f.features, s[MEAN], s[INVERSE]),
        needs=(WEIGHT, MEAN, INVERSE),
        fit=lambda statistics, s, p: fit_fdbd(statistics, s[WEIGHT]),
        reads_features=True,
    ),
    "mahalanobis": Method(
        lambda f, s, p: mahalanobis(f.unit_features, s[CENTRE], s[WHITENING], s[MEANS]),
        {"ridge": 1e-6},
        positive=mahalanobis_positive,
        needs=(CENTRE, WHITENING, MEANS),
        fit=lambda statistics, s, p: fit_mahalanobis(statistics, p["ridge"]),
        reads_features=True,
    ),
}

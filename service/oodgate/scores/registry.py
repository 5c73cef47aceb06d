"""Every score by name: what it computes from a forward, and its settings.

A name is a method alone ("energy") or its combination with NAP ("nap-energy").
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from oodgate.errors import SetupError
from oodgate.scores.combine import is_clamped, product
from oodgate.scores.energy import energy
from oodgate.scores.forward import Forward
from oodgate.scores.msp import msp
from oodgate.scores.nap import nap

State = Mapping[str, Tensor]
"""Tensors of the bundle by name: the classifier's weights and what was fitted."""

Parameters = Mapping[str, float]
"""Settings of one method by name."""


@dataclass(frozen=True)
class Method:
    """One method: its score (N,) of a forward, and the settings that reproduce the literature."""

    score: Callable[[Forward, State, Parameters], Tensor]
    defaults: Parameters = field(default_factory=dict)


METHODS: dict[str, Method] = {
    "nap": Method(lambda forward, _, p: nap(forward.activation, forward.features, p["eps"]), {"eps": 1.0}),
    "energy": Method(lambda forward, _, p: energy(forward.logits, p["temperature"]), {"temperature": 1.0}),
    "msp": Method(lambda forward, _, p: msp(forward.logits)),
}

COMBINED: dict[str, str] = {"nap-energy": "energy", "nap-msp": "msp"}
"""Combinations with NAP: the name, and the method that stands beside NAP."""

SCORERS: tuple[str, ...] = (*METHODS, *COMBINED)
"""Every name that can decide."""


Terms = Mapping[str, Tensor]
"""Scores (N,) by method, before any combination."""


def terms_of(scorer: str) -> tuple[str, ...]:
    """The methods that a scorer needs; raises SetupError for a name that is not registered."""
    if scorer in COMBINED:
        return ("nap", COMBINED[scorer])
    if scorer not in METHODS:
        raise SetupError(f"there is no score '{scorer}'; choose from {', '.join(SCORERS)}")
    return (scorer,)


def compute_terms(methods: Iterable[str], parameters: Parameters, forward: Forward, state: State) -> dict[str, Tensor]:
    """The scores of a batch by method; `parameters` holds settings as "method.setting", others keep their default."""
    return {name: _compute_term(name, parameters, forward, state) for name in methods}


def combine_terms(scorer: str, w: float | None, terms: Terms) -> Tensor:
    """The score (N,) of a scorer from the terms that it needs."""
    if scorer not in COMBINED:
        return terms[scorer]
    if w is None:
        raise SetupError(f"score '{scorer}' combines two scores and needs w, a number from 0 to 1")
    return product(terms[COMBINED[scorer]], terms["nap"], w)


def clamped_terms(scorer: str, terms: Terms) -> Tensor:
    """Where (N,) a combination had to clamp one of its terms to be positive."""
    flags = [is_clamped(term) if scorer in COMBINED else torch.zeros_like(term).bool() for term in terms.values()]
    return torch.stack(flags).any(0)


def _compute_term(name: str, parameters: Parameters, forward: Forward, state: State) -> Tensor:
    method = METHODS[name]
    settings = {key: parameters.get(f"{name}.{key}", default) for key, default in method.defaults.items()}
    return method.score(forward, state, settings)

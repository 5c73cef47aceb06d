"""Every score by name: a method alone ("energy") or a combination of one with NAP ("nap-energy").

This is what the rest of oodgate calls: which terms a name needs, the terms of a forward, the score of the terms, and
the tensors that have to be fitted first.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from oodgate.errors import SetupError
from oodgate.scores.combinations import COMBINED, Combination
from oodgate.scores.combine import is_clamped
from oodgate.scores.forward import Forward
from oodgate.scores.methods import BIAS, METHODS, RANGES, WEIGHT, Method, Parameters, State
from oodgate.scores.statistics import Statistics

__all__ = [
    "COMBINED",
    "METHODS",
    "SCORERS",
    "Combination",
    "Method",
    "Parameters",
    "State",
    "Terms",
    "clamped_terms",
    "combine_terms",
    "compute_terms",
    "fit_methods",
    "fit_scorer",
    "needs_of",
    "needs_of_network",
    "needs_w",
    "terms_of",
    "usable_scorers",
]

Terms = Mapping[str, Tensor]
"""Scores (N,) by method, before any combination."""

SCORERS: tuple[str, ...] = (*METHODS, *COMBINED)
"""Every name that can decide."""

_SETTINGS = frozenset(f"{name}.{key}" for name, method in METHODS.items() for key in method.defaults)


def terms_of(scorer: str) -> tuple[str, ...]:
    """The methods that a scorer needs; raises SetupError for a name that is not registered."""
    if scorer in COMBINED:
        return (COMBINED[scorer].nap, COMBINED[scorer].other)
    if scorer not in METHODS:
        raise SetupError(f"there is no score '{scorer}'; choose from {', '.join(SCORERS)}")
    return (scorer,)


def needs_w(scorer: str) -> bool:
    """Whether a scorer weighs its terms by w; raises SetupError for a name that is not registered."""
    return len(terms_of(scorer)) > 1


def needs_of(methods: Iterable[str]) -> set[str]:
    """Names of the state's tensors that the methods read."""
    return {tensor for name in methods for tensor in METHODS[name].needs}


def needs_of_network(method: str) -> tuple[str, ...]:
    """The tensors of the state that a method reads and that come with the network: they cannot be fitted."""
    return tuple(tensor for tensor in METHODS[method].needs if tensor in (WEIGHT, BIAS))


def usable_scorers(w: float | None, state: State) -> tuple[str, ...]:
    """Every name whose fitted tensors are in the state, without those that need a w where there is none."""
    return tuple(
        name
        for name in SCORERS
        if (w is not None or not needs_w(name)) and all(tensor in state for tensor in _needs(name))
    )


def compute_terms(methods: Iterable[str], parameters: Parameters, forward: Forward, state: State) -> dict[str, Tensor]:
    """The scores of a batch by method; `parameters` holds settings as "method.setting", others keep their default.

    Raises SetupError for a setting that no method has or that is out of range, and for a method whose tensors are not
    in the state.
    """
    _check_settings(parameters)
    return {name: _compute_term(name, parameters, forward, state) for name in methods}


def combine_terms(scorer: str, w: float | None, terms: Terms, state: State) -> Tensor:
    """The score (N,) of a scorer from the terms that it needs; raises SetupError where w or a fit is missing."""
    if scorer not in COMBINED:
        return terms[scorer]
    combination = COMBINED[scorer]
    if w is None:
        raise SetupError(f"score '{scorer}' combines two scores and needs w, a number from 0 to 1")
    _check_state(scorer, combination.needs, state)
    other, nap = _inputs(combination, terms)
    return combination.score(other, nap, w, state)


def clamped_terms(scorer: str, terms: Terms) -> Tensor:
    """Where (N,) a combination had to clamp one of its terms to be positive."""
    if scorer not in COMBINED or not COMBINED[scorer].clamps:
        return torch.zeros_like(terms[terms_of(scorer)[0]], dtype=torch.bool)
    other, nap = _inputs(COMBINED[scorer], terms)
    return is_clamped(other) | is_clamped(nap)


def fit_methods(
    methods: Iterable[str], statistics: Statistics, state: State, parameters: Parameters
) -> dict[str, Tensor]:
    """Tensors by name to add to the state, fitted on training images, for those methods that need any."""
    _check_settings(parameters)
    fitted: dict[str, Tensor] = {}
    for name in methods:
        if fit := METHODS[name].fit:
            _check_state(name, needs_of_network(name), state)
            fitted |= fit(statistics, state, _settings(name, parameters))
    return fitted


def fit_scorer(scorer: str, terms: Terms) -> dict[str, Tensor]:
    """Tensors by name to add to the state, fitted on the terms (n,) of in-distribution reference images.

    Empty for all but the combinations that compare with a reference. The images must not be those that set the
    threshold, whose guarantee holds for a score that was fixed before.
    """
    fit = COMBINED[scorer].fit if scorer in COMBINED else None
    return {} if fit is None else fit(*_inputs(COMBINED[scorer], terms))


def _compute_term(name: str, parameters: Parameters, forward: Forward, state: State) -> Tensor:
    _check_state(name, METHODS[name].needs, state)
    return METHODS[name].score(forward, state, _settings(name, parameters))


def _inputs(combination: Combination, terms: Terms) -> tuple[Tensor, Tensor]:
    other, nap = terms[combination.other], terms[combination.nap]
    if not combination.clamps:
        return other, nap
    return METHODS[combination.other].positive(other), METHODS[combination.nap].positive(nap)


def _needs(scorer: str) -> tuple[str, ...]:
    of_terms = [tensor for name in terms_of(scorer) for tensor in METHODS[name].needs]
    return (*of_terms, *(COMBINED[scorer].needs if scorer in COMBINED else ()))


def _settings(name: str, parameters: Parameters) -> Parameters:
    return {key: parameters.get(f"{name}.{key}", default) for key, default in METHODS[name].defaults.items()}


def _check_settings(parameters: Parameters) -> None:
    for key, value in parameters.items():
        if key not in _SETTINGS:
            raise SetupError(f"there is no setting '{key}' of a score; choose from {', '.join(sorted(_SETTINGS))}")
        least, most = RANGES[key.rpartition(".")[2]]
        if not least <= value <= most:
            raise SetupError(f"setting '{key}' is {value:g}; it must lie between {least:g} and {most:g}")


def _check_state(name: str, needs: Iterable[str], state: State) -> None:
    for tensor in needs:
        if tensor in state:
            continue
        if tensor in (WEIGHT, BIAS):
            raise SetupError(f"score '{name}' reads the last layer and the bundle lacks {tensor}; export it again")
        raise SetupError(f"score '{name}' needs to be fitted: run `oodgate calibrate` with --fit FOLDER")

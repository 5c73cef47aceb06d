"""The table of combinations: which method stands beside NAP, and how the two become one score."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from oodgate.scores.combine import fit_veto, p_combination, product, veto
from oodgate.scores.methods import State


@dataclass(frozen=True)
class Combination:
    """A score made of another method's and NAP's, both (N,)."""

    other: str
    score: Callable[[Tensor, Tensor, float, State], Tensor]  # of the other's score, NAP's, w and the state
    nap: str = "nap"  # the method that stands for NAP: itself or a variant
    clamps: bool = True  # takes the methods' positive forms and clamps them; otherwise the scores as they are
    needs: tuple[str, ...] = ()  # tensors of the state
    fit: Callable[[Tensor, Tensor], dict[str, Tensor]] | None = None  # of both scores (n,) of reference images


_VETO_MEANS, _VETO_DEVIATIONS = "nap-veto-energy.means", "nap-veto-energy.deviations"
_P_ENERGY, _P_NAP = "nap-p-energy.energy", "nap-p-energy.nap"


def _product(other: str, nap: str = "nap") -> Combination:
    return Combination(other, lambda first, second, w, _: product(first, second, w), nap)


COMBINED: dict[str, Combination] = {
    "nap-msp": _product("msp"),
    "nap-energy": _product("energy"),
    "nap-mls": _product("mls"),
    "nap-gen": _product("gen"),
    "nap-react": _product("react"),
    "nap-dice": _product("dice"),
    "nap-ash": _product("ash"),
    "nap-ash-b": _product("ash-b"),
    "nap-ash-p": _product("ash-p"),
    "nap-scale": _product("scale"),
    "nap-knn": _product("knn"),
    "nap-fdbd": _product("fdbd"),
    "nap-mahalanobis": _product("mahalanobis"),
    "nap_variance-energy": _product("energy", "nap_variance"),
    "nap_unsquared-energy": _product("energy", "nap_unsquared"),
    "nap_minus-energy": _product("energy", "nap_minus"),
    "nap-veto-energy": Combination(
        "energy",
        lambda other, nap, w, state: veto(other, nap, w, state[_VETO_MEANS], state[_VETO_DEVIATIONS]),
        needs=(_VETO_MEANS, _VETO_DEVIATIONS),
        fit=lambda other, nap: dict(zip((_VETO_MEANS, _VETO_DEVIATIONS), fit_veto(other, nap), strict=True)),
    ),
    "nap-p-energy": Combination(
        "energy",
        lambda other, nap, w, state: p_combination(other, nap, w, state[_P_ENERGY], state[_P_NAP]),
        clamps=False,
        needs=(_P_ENERGY, _P_NAP),
        fit=lambda other, nap: {_P_ENERGY: other.sort().values, _P_NAP: nap.sort().values},
    ),
}
"""Combinations with NAP by name."""

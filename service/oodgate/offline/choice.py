"""Which scorer, with which w: chosen on pseudo-OOD evidence, and never at the price of Energy's strengths."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oodgate.offline.measures import auroc, fpr95
from oodgate.offline.search import Evidence
from oodgate.scores.registry import State, needs_w

BASELINE = "energy"
GRID = np.linspace(0, 1, 21).round(2)
"""Weights that are tried, ends included: FPR95 can have several minima over w."""

PLATEAU = 0.5
"""Weights whose mean FPR95 lies within this many points of the lowest are taken to be as good."""

_STANDARD_ERRORS = 2


@dataclass(frozen=True)
class Candidate:
    """A scorer with its w, and its FPR95 in percent on every family."""

    scorer: str
    w: float | None
    fpr95: Mapping[str, float]

    @property
    def mean(self) -> float:
        """FPR95 averaged over the families."""
        return float(np.mean(list(self.fpr95.values())))

    def __str__(self) -> str:
        return self.scorer if self.w is None else f"{self.scorer} at w = {self.w:g}"


@dataclass(frozen=True)
class Choice:
    """What was chosen, what else was considered, and why."""

    chosen: Candidate
    candidates: tuple[Candidate, ...]
    reasons: tuple[str, ...]


def choose(evidence: Evidence, scorers: Iterable[str], w: float | None, state: State) -> Choice:
    """Of several scorers the one with the lowest mean FPR95 among those that are nowhere worse than Energy.

    Worse means by more than two standard errors of the difference, on any family. A w of None is searched for every
    scorer that takes one, among the weights that are nowhere worse where there are any.
    """
    baseline = judge(evidence, BASELINE, None, state)
    candidates = tuple(safest_of(evidence, scorer, w, state, baseline) for scorer in scorers)
    losses = [losing_families(candidate, baseline, len(evidence.known)) for candidate in candidates]
    sound = [candidate for candidate, families in zip(candidates, losses, strict=True) if not families]
    chosen = min(sound, key=lambda candidate: candidate.mean, default=baseline)
    reasons = [f"{chosen} has the lowest mean FPR95, {chosen.mean:.2f} %, of all that lose to {BASELINE} on no family"]
    reasons += [
        f"{candidate}, {candidate.mean:.2f} %, loses to {BASELINE} on {', '.join(families)}"
        for candidate, families in zip(candidates, losses, strict=True)
        if families
    ]
    return Choice(chosen, candidates, tuple(reasons))


def choose_w(evidence: Evidence, scorer: str, state: State) -> Choice:
    """The w of one scorer, at the centre of its plateau; what it loses to Energy is said and not held against it."""
    baseline = judge(evidence, BASELINE, None, state)
    chosen = best_of(evidence, scorer, None, state)
    lost = losing_families(chosen, baseline, len(evidence.known))
    reasons = [f"{chosen} is the centre of the plateau of the mean FPR95, {chosen.mean:.2f} %"]
    reasons += [f"it loses to {BASELINE} on {', '.join(lost)}"] if lost else []
    return Choice(chosen, (chosen,), tuple(reasons))


def judge(evidence: Evidence, scorer: str, w: float | None, state: State) -> Candidate:
    """A scorer's FPR95 on every family."""
    known = evidence.known.scores(scorer, w, state)
    strange = {name: terms.scores(scorer, w, state) for name, terms in evidence.families.items()}
    return Candidate(scorer, w, {name: fpr95(known, scores) for name, scores in strange.items()})


def best_of(evidence: Evidence, scorer: str, w: float | None, state: State) -> Candidate:
    """The scorer at the w given, or at the centre of the plateau of its mean FPR95 over w."""
    if w is not None or not needs_w(scorer):
        return judge(evidence, scorer, w if needs_w(scorer) else None, state)
    curve = np.array([judge(evidence, scorer, float(step), state).mean for step in GRID])
    return judge(evidence, scorer, float(GRID[plateau_centre(curve)]), state)


def safest_of(evidence: Evidence, scorer: str, w: float | None, state: State, baseline: Candidate) -> Candidate:
    """The scorer at the w given, or at the best w that loses to the baseline on no family; else as `best_of`."""
    if w is not None or not needs_w(scorer):
        return best_of(evidence, scorer, w, state)
    tried = (judge(evidence, scorer, float(step), state) for step in GRID)
    sound = [candidate for candidate in tried if not losing_families(candidate, baseline, len(evidence.known))]
    return min(sound, key=lambda candidate: candidate.mean) if sound else best_of(evidence, scorer, None, state)


def plateau_centre(curve: NDArray[np.float64]) -> int:
    """The middle position of the stretch around the lowest value that lies within PLATEAU of it."""
    first = last = int(curve.argmin())
    limit = curve[first] + PLATEAU
    while first > 0 and curve[first - 1] <= limit:
        first -= 1
    while last < len(curve) - 1 and curve[last + 1] <= limit:
        last += 1
    return (first + last) // 2


def losing_families(candidate: Candidate, baseline: Candidate, images: int) -> list[str]:
    """The families on which a candidate's FPR95 exceeds the baseline's by more than the noise of `images` images."""
    return [
        name
        for name, value in candidate.fpr95.items()
        if value - baseline.fpr95[name] > 100 * _noise(value / 100, baseline.fpr95[name] / 100, images)
    ]


def areas(evidence: Evidence, scorer: str, w: float | None, state: State) -> dict[str, float]:
    """A scorer's AUROC on every family, in percent; below 50 it is inverted there."""
    known = evidence.known.scores(scorer, w, state)
    return {name: auroc(known, terms.scores(scorer, w, state)) for name, terms in evidence.families.items()}


def _noise(first: float, second: float, images: int) -> float:
    return _STANDARD_ERRORS * float(np.sqrt((first * (1 - first) + second * (1 - second)) / images))

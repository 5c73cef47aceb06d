"""Which scorer, with which w: chosen on pseudo-OOD evidence, and never at the price of Energy's strengths."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oodgate.offline.measures import auroc, passes_at_95
from oodgate.offline.search import Evidence
from oodgate.scores.registry import State, needs_w

BASELINE = "energy"
GRID = np.linspace(0, 1, 21).round(2)
"""Weights that are tried, ends included: FPR95 can have several minima over w."""

PLATEAU = 0.5
"""Weights whose typical FPR95 lies within this many points of the lowest are taken to be as good."""

_STANDARD_ERRORS = 2


@dataclass(frozen=True)
class Candidate:
    """A scorer with its w, and which images of every family pass at 95 %."""

    scorer: str
    w: float | None
    passed: Mapping[str, NDArray[np.bool_]]

    @property
    def fpr95(self) -> dict[str, float]:
        """FPR95 in percent on every family."""
        return {name: 100 * float(images.mean()) for name, images in self.passed.items()}

    @property
    def typical(self) -> float:
        """The root mean square of FPR95 over the families, so that one that passes counts more than many caught."""
        return float(np.sqrt(np.mean(np.square(list(self.fpr95.values())))))

    def __str__(self) -> str:
        return self.scorer if self.w is None else f"{self.scorer} at w = {self.w:g}"


@dataclass(frozen=True)
class Choice:
    """What was chosen, what else was considered, and why."""

    chosen: Candidate
    candidates: tuple[Candidate, ...]
    reasons: tuple[str, ...]


def choose(evidence: Evidence, scorers: Iterable[str], w: float | None, state: State) -> Choice:
    """Of several scorers the one with the lowest typical FPR95 among those that are nowhere worse than Energy.

    Worse means by more than two standard errors of the difference on the same images, on any family. A w of None is
    searched for every scorer that takes one, among the weights that are nowhere worse where there are any.
    """
    baseline = judge(evidence, BASELINE, None, state)
    candidates = tuple(safest_of(evidence, scorer, w, state, baseline) for scorer in scorers)
    losses = [losing_families(candidate, baseline) for candidate in candidates]
    sound = [candidate for candidate, families in zip(candidates, losses, strict=True) if not families]
    chosen = min(sound, key=lambda candidate: candidate.typical, default=baseline)
    reasons = [
        f"{chosen} has the lowest typical FPR95, {chosen.typical:.2f} %, of all that lose to {BASELINE} on no family"
    ]
    reasons += [
        f"{candidate}, {candidate.typical:.2f} %, loses to {BASELINE} on {', '.join(families)}"
        for candidate, families in zip(candidates, losses, strict=True)
        if families
    ]
    return Choice(chosen, candidates, tuple(reasons))


def choose_w(evidence: Evidence, scorer: str, state: State) -> Choice:
    """The w of one scorer, at the centre of its plateau; what it loses to Energy is said and not held against it."""
    baseline = judge(evidence, BASELINE, None, state)
    chosen = best_of(evidence, scorer, None, state)
    lost = losing_families(chosen, baseline)
    reasons = [f"{chosen} is the centre of the plateau of the typical FPR95, {chosen.typical:.2f} %"]
    reasons += [f"it loses to {BASELINE} on {', '.join(lost)}"] if lost else []
    return Choice(chosen, (chosen,), tuple(reasons))


def judge(evidence: Evidence, scorer: str, w: float | None, state: State) -> Candidate:
    """A scorer's FPR95 on every family."""
    known = evidence.known.scores(scorer, w, state)
    strange = {name: terms.scores(scorer, w, state) for name, terms in evidence.families.items()}
    return Candidate(scorer, w, {name: passes_at_95(known, scores) for name, scores in strange.items()})


def best_of(evidence: Evidence, scorer: str, w: float | None, state: State) -> Candidate:
    """The scorer at the w given, or at the centre of the plateau of its typical FPR95 over w."""
    if w is not None or not needs_w(scorer):
        return judge(evidence, scorer, w if needs_w(scorer) else None, state)
    curve = np.array([judge(evidence, scorer, float(step), state).typical for step in GRID])
    return judge(evidence, scorer, float(GRID[plateau_centre(curve)]), state)


def safest_of(evidence: Evidence, scorer: str, w: float | None, state: State, baseline: Candidate) -> Candidate:
    """The scorer at the w given, or at the best w that loses to the baseline on no family; else as `best_of`."""
    if w is not None or not needs_w(scorer):
        return best_of(evidence, scorer, w, state)
    tried = (judge(evidence, scorer, float(step), state) for step in GRID)
    sound = [candidate for candidate in tried if not losing_families(candidate, baseline)]
    return min(sound, key=lambda candidate: candidate.typical) if sound else best_of(evidence, scorer, None, state)


def plateau_centre(curve: NDArray[np.float64]) -> int:
    """The middle position of the stretch around the lowest value that lies within PLATEAU of it."""
    first = last = int(curve.argmin())
    limit = curve[first] + PLATEAU
    while first > 0 and curve[first - 1] <= limit:
        first -= 1
    while last < len(curve) - 1 and curve[last + 1] <= limit:
        last += 1
    return (first + last) // 2


def losing_families(candidate: Candidate, baseline: Candidate) -> list[str]:
    """The families on which a candidate lets more images pass than the baseline, by more than the noise."""
    return [name for name, passed in candidate.passed.items() if _loses(passed, baseline.passed[name])]


def areas(evidence: Evidence, scorer: str, w: float | None, state: State) -> dict[str, float]:
    """A scorer's AUROC on every family, in percent; below 50 it is inverted there."""
    known = evidence.known.scores(scorer, w, state)
    return {name: auroc(known, terms.scores(scorer, w, state)) for name, terms in evidence.families.items()}


def _loses(passed: NDArray[np.bool_], baseline: NDArray[np.bool_]) -> bool:
    # Both judged the same images, so only those that they judge otherwise make noise.
    difference = passed.astype(np.float64) - baseline
    return bool(difference.mean() > _STANDARD_ERRORS * difference.std() / np.sqrt(len(difference)))

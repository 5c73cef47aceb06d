"""One stream of reject flags: the bets on it, and at which evidence each kind of it alarms."""

from collections.abc import Callable
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from oodgate.conformal import STAKES, DriftBets

Limits = dict[str, tuple[Callable[[DriftBets], float], float]]
"""Kinds of evidence by name: how it is read off the bets, and its limit as log10."""


@dataclass(frozen=True, slots=True)
class Signal:
    """Evidence as log10, and whether it has ever passed its limit."""

    evidence: float
    raised: bool


class WatchState(BaseModel):
    """What is kept of the bets on one stream."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    images: int = Field(ge=0)
    rejected: int = Field(ge=0)
    recent: list[float] = Field(min_length=len(STAKES), max_length=len(STAKES))
    raised: list[str]


class Watch:
    """Bets on one stream, and the alarms that they have ever raised. Not safe between threads."""

    def __init__(self, bets: DriftBets, limits: Limits) -> None:
        self._bets = bets
        self._limits = limits
        self._silent = dict(limits)
        self.raised: set[str] = set()

    @classmethod
    def restored(cls, alpha: float, limits: Limits, state: WatchState) -> "Watch":
        """The watch that gave this state; raises ValueError where no stream leads to it."""
        wealths_fit = all(wealth >= 0 for wealth in state.recent)
        if not (wealths_fit and state.rejected <= state.images and set(state.raised) <= set(limits)):
            raise ValueError("the numbers contradict each other")
        watch = cls(DriftBets(alpha, state.images, state.rejected, state.recent), limits)
        for name in state.raised:
            watch._raise(name)
        return watch

    def update(self, rejected: bool) -> None:
        """Take in one decision."""
        self._bets.update(rejected)
        if rejected:  # an acceptance never adds to the evidence
            for name, (measure, limit) in tuple(self._silent.items()):
                if measure(self._bets) >= limit:
                    self._raise(name)

    def signals(self) -> dict[str, Signal]:
        """Evidence and alarm, by kind."""
        return {name: Signal(measure(self._bets), name in self.raised) for name, (measure, _) in self._limits.items()}

    def state(self) -> WatchState:
        """What `restored` goes on from."""
        bets = self._bets
        return WatchState(images=bets.images, rejected=bets.rejected, recent=bets.recent, raised=sorted(self.raised))

    def _raise(self, name: str) -> None:
        self.raised.add(name)
        del self._silent[name]

"""The drift alarm: evidence that images are rejected more often than the threshold's calibration allows."""

import hashlib
from collections.abc import Callable, Mapping
from math import log10
from threading import Lock
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from oodgate.conformal import BLOCK, OTHER, STAKES, DriftBets
from oodgate.observability.clients import ClientQuota
from oodgate.observability.watch import Limits, Signal, Watch, WatchState

HORIZONS: dict[str, Callable[[DriftBets], float]] = {"long": DriftBets.long, "short": DriftBets.short}
"""Evidence of all images by name: since the stream began, and since some later time."""

CLASS_HORIZON = {"class": DriftBets.both}
"""Evidence within a class is of either kind."""


class DriftState(BaseModel):
    """What is kept of an alarm; `identity` says whose it is."""

    model_config = ConfigDict(extra="forbid", strict=True)

    identity: str
    overall: WatchState
    classes: dict[str, WatchState]


class DriftAlarm:
    """Bets on the reject flags of a stream of images, of all of them and of those of each predicted class.

    As long as no rate exceeds its bound, any alarm is ever raised with probability at most `false_alarms`, however
    long the stream: half of it is shared equally by the horizons, half by the classes; the horizons have all where no
    class is watched. The bounds are those of the calibration: alpha under a PAC threshold, and `class_alphas`. Once
    raised, an alarm stays until it is reset; a reset begins a stream with a guarantee of its own. Thread-safe.
    """

    def __init__(
        self,
        alpha: float,
        false_alarms: float,
        class_alphas: Mapping[int, float] | None = None,
        identity: str = "",
        quota: ClientQuota | None = None,
    ) -> None:
        """`class_alphas` as of `conformal.class_alphas`; `identity` tells model and threshold from all others."""
        self._bounds = dict(sorted((class_alphas or {}).items()))
        self._alpha = alpha
        share = false_alarms / 2 if self._bounds else false_alarms
        self._limit = -log10(share / len(HORIZONS))
        self._class_limit = -log10(share / max(1, len(self._bounds)))
        self._identity = _fingerprint(identity, alpha, self._bounds)
        self._quota = quota
        self._lock = Lock()
        self.reset()

    def update(self, rejected: bool, predicted: int | None = None, client: str | None = None) -> None:
        """Take in one decision, with the class's index, unless its client has used up its quota."""
        with self._lock:
            if self._quota is not None and client is not None and not self._quota.take(client):
                self.uncounted += 1
                return
            self._overall.update(rejected)
            watch = self._watch_of(predicted)
            if watch:
                watch.update(rejected)

    @property
    def evidence(self) -> float:
        """The larger evidence of the horizons, log10."""
        return max(signal.evidence for signal in self.horizons().values())

    @property
    def raised(self) -> bool:
        """Whether there is an alarm of any horizon or class."""
        with self._lock:
            return any(watch.raised for watch in (self._overall, *self._classes.values()))

    def horizons(self) -> dict[str, Signal]:
        """The evidence of all images, by horizon."""
        with self._lock:
            return self._overall.signals()

    def classes(self) -> dict[int, Signal]:
        """The evidence within each watched class by its index, OTHER among them; classes not yet seen have none."""
        with self._lock:
            return {index: watch.signals()["class"] for index, watch in self._classes.items()}

    def reset(self) -> None:
        """Forget all evidence and end the alarms."""
        with self._lock:
            self._overall = Watch(DriftBets(self._alpha), self._limits())
            self._classes: dict[int, Watch] = {}
            self.uncounted = 0  # images beyond their client's quota

    def state(self) -> dict[str, Any]:
        """All evidence as a JSON document, for `restore`."""
        with self._lock:
            classes = {str(index): watch.state() for index, watch in self._classes.items()}
            return DriftState(identity=self._identity, overall=self._overall.state(), classes=classes).model_dump()

    def restore(self, state: object) -> bool:
        """Go on from what `state` gave; False, and nothing changes, where it is damaged or not of this threshold."""
        try:
            kept = DriftState.model_validate(state)
            overall = Watch.restored(self._alpha, self._limits(), kept.overall)
            classes = {
                int(index): Watch.restored(self._bounds[int(index)], self._class_limits(), watch)
                for index, watch in kept.classes.items()
            }
        except (ValidationError, ValueError, KeyError):
            return False
        if kept.identity != self._identity:
            return False
        with self._lock:
            self._overall, self._classes = overall, classes
        return True

    def _limits(self) -> Limits:
        return {name: (measure, self._limit) for name, measure in HORIZONS.items()}

    def _class_limits(self) -> Limits:
        return {name: (measure, self._class_limit) for name, measure in CLASS_HORIZON.items()}

    def _watch_of(self, predicted: int | None) -> Watch | None:
        group = predicted if predicted in self._bounds else OTHER
        if predicted is None or group not in self._bounds:
            return None
        if group not in self._classes:
            self._classes[group] = Watch(DriftBets(self._bounds[group]), self._class_limits())
        return self._classes[group]


def _fingerprint(identity: str, alpha: float, bounds: Mapping[int, float]) -> str:
    """Tells the bets apart by all that their wealth depends on but the stream."""
    return hashlib.sha256(repr((identity, alpha, bounds, STAKES, BLOCK)).encode()).hexdigest()

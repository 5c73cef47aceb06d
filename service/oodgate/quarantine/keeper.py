"""The service's side of a quarantine: images are offered at no cost to the request and written by a thread."""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic, time
from typing import Literal

import numpy as np
import structlog

from oodgate.quarantine.archive import Archive, Bounds
from oodgate.quarantine.record import Record

Outcome = Literal["kept", "dropped", "failed"]
"""Of an image that was to be kept: written; no place in the queue, or too large; could not be written."""

LOG_EVERY_S = 60.0
PRUNE_EVERY_S = 600.0

log = structlog.stdlib.get_logger("oodgate")


@dataclass(frozen=True)
class KeeperLimits:
    """What is taken, and how much may wait to be written."""

    accepted_share: float = 0.0  # of accepted images; rejected ones are all taken
    max_queue: int = 256
    max_queue_bytes: int = 64 * 2**20


class Quarantine:
    """A bounded queue in front of one thread that writes."""

    def __init__(
        self,
        archive: Archive,
        bounds: Bounds,
        limits: KeeperLimits | None = None,
        on_outcome: Callable[[Outcome], None] = lambda outcome: None,
        clock: Callable[[], float] = time,
    ) -> None:
        """`on_outcome` hears of every image that was to be kept, in any thread; `clock` is in seconds since 1970."""
        self._archive = archive
        self._bounds = bounds
        self._limits = limits or KeeperLimits()
        self._on_outcome = on_outcome
        self._clock = clock
        self._dice = np.random.default_rng()
        self._waiting: deque[tuple[bytes, Record]] = deque()
        self._waiting_bytes = 0
        self._changed = threading.Condition()
        self._ended = False
        self._complained_s = self._pruned_s = -float("inf")
        self.outcomes: dict[Outcome, int] = {"kept": 0, "dropped": 0, "failed": 0}
        self._writer = threading.Thread(target=self._run, name="oodgate-quarantine", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._writer.start()

    def offer(self, data: bytes, record: Record) -> bool:
        """Take an image to be written, if it is to be kept and there is a place for it; never waits for the disk."""
        with self._changed:
            if record.decision == "accept" and self._dice.random() >= self._limits.accepted_share:
                return False
            full = len(self._waiting) >= self._limits.max_queue
            full |= self._waiting_bytes + len(data) > self._limits.max_queue_bytes
            if not (full or self._ended):
                self._waiting.append((data, record))
                self._waiting_bytes += len(data)
                self._changed.notify()
                return True
        self._count("dropped")
        return False

    def close(self, timeout_s: float = 5.0) -> None:
        """Write what waits, as far as the time allows, and end the thread."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        if self._writer.is_alive():
            self._writer.join(timeout_s)
        elif not self._writer.ident:  # it never ran, and what it would have closed is open
            self._archive.close()

    def _run(self) -> None:
        for work in (self._repair, self._prune):
            self._guarded(work)
        while self._wait():
            if self._waiting:
                self._guarded(self._keep_next)
            if monotonic() - self._pruned_s >= PRUNE_EVERY_S:
                self._guarded(self._prune)
        self._archive.close()

    def _wait(self) -> bool:
        """Until there is something to do; False at the end."""
        with self._changed:
            if not (self._waiting or self._ended):
                self._changed.wait(PRUNE_EVERY_S)
            return bool(self._waiting) or not self._ended

    def _keep_next(self) -> None:
        with self._changed:
            data, record = self._waiting.popleft()
            self._waiting_bytes -= len(data)
        share = 1.0 if record.decision == "reject" else self._limits.accepted_share
        try:
            kept = self._archive.keep(data, record, share, self._bounds)
        except Exception:
            self._count("failed")
            raise
        self._count("kept" if kept else "dropped")

    def _repair(self) -> None:
        self._archive.repair()

    def _prune(self) -> None:
        self._pruned_s = monotonic()
        self._archive.prune(self._bounds, self._clock())

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # a full disk, a damaged index, whatever a remote place's library raises
            if monotonic() - self._complained_s >= LOG_EVERY_S:
                log.error("the quarantine cannot be written", reason=f"{type(error).__name__}: {error}")
                self._complained_s = monotonic()

    def _count(self, outcome: Outcome) -> None:
        with self._changed:
            self.outcomes[outcome] += 1
        self._on_outcome(outcome)

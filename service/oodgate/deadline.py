"""A deadline that is set anew for every request and hardly ever passes."""

from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable


class Deadline:
    """One at a time on an event loop.

    A timer for each would be made and cancelled with every request; here one runs on, looks when it fires whether the
    deadline of then has passed, and is made anew only where that comes sooner.
    """

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._at = 0.0  # of the loop's clock
        self._on_late: Callable[[], None] | None = None
        self._timer: TimerHandle | None = None
        self._fires_at = 0.0

    def set(self, delay_s: float, on_late: Callable[[], None]) -> None:
        """Call `on_late` once after so long, unless something else is set or it is cleared before."""
        self._at, self._on_late = self._loop.time() + delay_s, on_late
        if self._timer is None or self._fires_at > self._at:
            self._start()

    def clear(self) -> None:
        """It was met."""
        self._on_late = None

    def close(self) -> None:
        """Keep nothing alive any more; nothing may be set after."""
        self.clear()
        self._stop()

    def _start(self) -> None:
        self._stop()
        self._fires_at = self._at
        self._timer = self._loop.call_at(self._at, self._look)

    def _stop(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self._on_late is None:
            return
        if self._loop.time() < self._at:
            self._start()
            return
        on_late, self._on_late = self._on_late, None
        on_late()

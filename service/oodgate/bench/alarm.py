"""An alarm of an event loop that rings on time.

The loop's own timers have a resolution of 1 ms: a generator that is to send thousands of requests a second would send
them in bursts, or spin until they are due, on a core that the server needs.
"""

import ctypes
import os
import time
from asyncio import AbstractEventLoop
from collections.abc import Callable

from oodgate.errors import SetupError

_NS = 1_000_000_000
_libc = ctypes.CDLL(None, use_errno=True)


class _TimerSpec(ctypes.Structure):
    """`struct itimerspec` of timerfd_settime(2)."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


class Alarm:
    """One alarm at a time; it rings in a callback of the loop."""

    def __init__(self, loop: AbstractEventLoop, on_ring: Callable[[], None]) -> None:
        """Raises SetupError where the system is not Linux, or has no descriptor left."""
        if not hasattr(_libc, "timerfd_create"):
            raise SetupError("requests at a rate need the timers of Linux; measure there, or with --clients")
        self._loop, self._on_ring = loop, on_ring
        self._descriptor = _libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            reason = os.strerror(ctypes.get_errno())
            raise SetupError(f"no timer for the load: {reason}; allow more open files (`ulimit -n`)")
        loop.add_reader(self._descriptor, self._ring)

    def set(self, delay_s: float) -> None:
        """Ring once after so many seconds, at once where that is past; in the place of what was set before."""
        seconds, nanoseconds = divmod(max(1, int(delay_s * _NS)), _NS)  # zero would turn it off
        _libc.timerfd_settime(self._descriptor, 0, ctypes.byref(_TimerSpec(0, 0, seconds, nanoseconds)), None)

    def close(self) -> None:
        """It does not ring any more."""
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)

    def _ring(self) -> None:
        os.read(self._descriptor, 8)  # so that it is not found ready again
        self._on_ring()

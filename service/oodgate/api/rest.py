"""Rests of an event loop while more comes than can be answered.

Each request that is refused wakes the loop, on a core from which that takes a forward away. During a rest requests
gather and the forwards go on; then all that came are refused in one go.
"""

import asyncio
from time import sleep

from oodgate.errors import RequestError

_LONGEST_S = 0.01
_SHARE = 0.1  # of the time that the work that waits will last: workers never wait for the loop


class Rests:
    """One at a time, after the events of the moment."""

    def __init__(self) -> None:
        self._resting = False

    def rest_after(self, refusal: RequestError) -> None:
        """Let the running loop rest soon, where a request was refused for the work that waits."""
        rest_s = min(_LONGEST_S, _SHARE * refusal.busy_s)
        if rest_s and not self._resting:
            self._resting = True
            asyncio.get_running_loop().call_soon(self._rest, rest_s)

    def _rest(self, rest_s: float) -> None:
        self._resting = False
        sleep(rest_s)  # the thread of the loop has to rest, not one of its tasks

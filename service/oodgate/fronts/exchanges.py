"""The requests of a front that the device process is at, by number."""

from collections.abc import Callable
from itertools import count

from oodgate.errors import NotReady
from oodgate.fronts.link import Link
from oodgate.fronts.wire import LAST, Frame, Kind

OnFrame = Callable[[Frame | None], None]
"""Hears every frame of an exchange; None in place of the last where the device process is gone."""

_MOST_NUMBERS = 2**32


class Exchanges:
    """Hands the frames of the device process to the requests that they belong to."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._numbers = count()
        self._open: dict[int, OnFrame] = {}

    def begin(self, kind: Kind, on_frame: OnFrame, *parts: bytes) -> int:
        """Say the first of an exchange, and return its number.

        Raises NotReady where the device process is gone; if it does not, `on_frame` hears a last frame, or None, once.
        """
        if not self._link.open:
            raise gone()
        number = next(number for number in self._numbers if number % _MOST_NUMBERS not in self._open) % _MOST_NUMBERS
        self._open[number] = on_frame
        self._link.send(kind, number, *parts)
        return number

    def say(self, kind: Kind, number: int, *parts: bytes) -> None:
        """Say more of an exchange; what has ended is not heard of any more."""
        if number in self._open:
            self._link.send(kind, number, *parts)

    def take(self, frame: Frame) -> None:
        """Hand a frame on; raises LookupError where it belongs to no exchange."""
        on_frame = self._open.pop(frame.exchange) if frame.kind in LAST else self._open[frame.exchange]
        on_frame(frame)

    def end(self) -> None:
        """Tell everybody who waits that there will be no answer."""
        while self._open:
            self._open.popitem()[1](None)


def gone() -> NotReady:
    """What is said in place of an answer of the device process."""
    return NotReady("the process with the models ended; send the request to another instance")

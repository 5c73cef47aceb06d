"""One end of the connection between a front and the device process.

It is a pair of sockets that were never in the file system: nobody else can reach it, nothing of it is left behind, and
each end learns at once when the other dies.
"""

import asyncio
from collections.abc import Callable
from typing import cast

import structlog

from oodgate.fronts.wire import Frame, Frames, Kind, pack

_MOST_TOGETHER = 8  # frames: with more the other process would have nothing to do meanwhile

log = structlog.stdlib.get_logger("oodgate")


class Link(asyncio.Protocol):
    """Sends frames, and hands on those that come; whatever comes, it raises nothing.

    Some frames of one round of the event loop leave together: a system call for each, which wakes the other process,
    would take a fifth of the device process's time.
    """

    def __init__(self, most_bytes: int, on_frame: Callable[[Frame], None], on_end: Callable[[], None]) -> None:
        """`on_frame` may raise where a frame cannot be understood; `on_end` hears once that there will be no more."""
        self._frames = Frames(most_bytes)
        self._on_frame, self._on_end = on_frame, on_end
        self._transport: asyncio.Transport | None = None
        self._unsent: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The other end can be told something now."""
        self._transport = cast("asyncio.Transport", transport)
        self._loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        """Hand on what is whole; a stream that cannot be cut into frames ends the connection."""
        try:
            for frame in self._frames.feed(data):
                self._hand_on(frame)
        except ValueError as error:
            log.error("a connection between processes is broken", reason=str(error))
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The other end is gone."""
        self._transport = None
        self._on_end()

    @property
    def open(self) -> bool:
        """Whether the other end is there."""
        return self._transport is not None

    def send(self, kind: Kind, exchange: int = 0, *parts: bytes) -> None:
        """Say something, unless nobody is there to hear it."""
        if self._transport:
            if not self._unsent:
                self._loop.call_soon(self._send_all)
            self._unsent.append(pack(kind, exchange, *parts))
            if len(self._unsent) == _MOST_TOGETHER:
                self._send_all()

    def close(self) -> None:
        """End the connection when everything is sent."""
        self._send_all()
        if self._transport:
            self._transport.close()

    def _send_all(self) -> None:
        unsent, self._unsent = self._unsent, []
        if self._transport and unsent:
            self._transport.write(b"".join(unsent))

    def _hand_on(self, frame: Frame) -> None:
        try:
            self._on_frame(frame)
        except Exception:  # a fault in one message is no reason to end everybody's requests
            log.exception("a message between processes cannot be understood", kind=frame.kind)

"""One HTTP/1.1 keep-alive connection to a server of this machine: bytes of a request in, its outcome out.

It does as little as it can for a request, since it shares the cores with the server that it measures: requests are
built beforehand, of an answer only the status is looked at, and no task or timer is made for one.
"""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import cast

from httptools import HttpParserError, HttpResponseParser

from oodgate.deadline import Deadline

LOOPBACK = "127.0.0.1"
TIMEOUT, CLOSED, MALFORMED, UNREACHABLE = "timeout", "closed", "malformed", "unreachable"

OnOutcome = Callable[[str], None]
"""Hears a status such as "200", or what went wrong instead."""


def build_request(path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    """The bytes of a POST."""
    lines = [f"POST {path} HTTP/1.1", f"Host: {LOOPBACK}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def connect(port: int, timeout_s: float) -> "Connection | None":
    """A connection to a port of this machine; None where nothing accepts it in time."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout_s):
            _, connection = await loop.create_connection(lambda: Connection(timeout_s), LOOPBACK, port)
    except (OSError, TimeoutError):
        return None
    return connection


class Connection(asyncio.Protocol):
    """One request at a time, each with one outcome."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._parser = HttpResponseParser(self)
        self._on_outcome: OnOutcome | None = None  # while a request waits
        self._deadline = Deadline(asyncio.get_running_loop())
        self.open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The server is there."""
        self._transport = cast(asyncio.Transport, transport)
        self.open = True

    def send(self, request: bytes, on_outcome: OnOutcome) -> None:
        """Send a request; after any other outcome than a whole answer the connection is closed."""
        self._on_outcome = on_outcome
        self._deadline.set(self._timeout_s, partial(self._end, TIMEOUT))
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Some of an answer."""
        try:
            self._parser.feed_data(data)
        except HttpParserError:
            self._end(MALFORMED)

    def on_message_complete(self) -> None:
        """The parser has seen a whole answer."""
        if not self._parser.should_keep_alive():
            self.close()
        self._resolve(str(self._parser.get_status_code()))

    def connection_lost(self, error: Exception | None) -> None:
        """The server has closed the connection."""
        self._end(CLOSED)

    def close(self) -> None:
        """Send nothing any more."""
        self.open = False
        self._transport.abort()
        self._deadline.close()

    def _end(self, outcome: str) -> None:
        self.close()
        self._resolve(outcome)

    def _resolve(self, outcome: str) -> None:
        self._deadline.clear()
        on_outcome, self._on_outcome = self._on_outcome, None
        if on_outcome:
            on_outcome(outcome)

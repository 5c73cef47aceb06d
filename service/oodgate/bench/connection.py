"""One HTTP/1.1 keep-alive connection to a server of this machine: bytes of a request in, its outcome out.

It does as little as it can for a request, since it shares the cores with the server that it measures: requests are
built beforehand, and of an answer only the status is looked at.
"""

import asyncio
from collections.abc import Mapping
from typing import cast

from httptools import HttpParserError, HttpResponseParser

LOOPBACK = "127.0.0.1"
TIMEOUT, CLOSED, MALFORMED, UNREACHABLE = "timeout", "closed", "malformed", "unreachable"


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
    """One request at a time, each with an outcome: a status such as "200", or what went wrong instead."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._parser = HttpResponseParser(self)
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[str] | None = None
        self.open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The server is there."""
        self._transport = cast(asyncio.Transport, transport)
        self.open = True

    async def exchange(self, request: bytes) -> str:
        """Send a request and return its outcome; after anything but a whole answer the connection is closed."""
        self._answer = self._loop.create_future()
        timer = self._loop.call_later(self._timeout_s, self._end, TIMEOUT)
        self._transport.write(request)
        try:
            return await self._answer
        finally:
            timer.cancel()

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

    def _end(self, outcome: str) -> None:
        self.close()
        self._resolve(outcome)

    def _resolve(self, outcome: str) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(outcome)

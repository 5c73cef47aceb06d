"""uvicorn's HTTP with bounds on the size and the time of a request's head; it has none of its own."""

import asyncio
from itertools import chain

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

MAX_HEAD_BYTES = 32 * 2**10
MAX_HEADERS = 100
HEAD_TIMEOUT_S = 15.0

_TOO_LARGE = b"Request header fields too large."


class BoundedProtocol(HttpToolsProtocol):
    """Answers 431 and closes where a request's line and headers, or its trailers, are too long or too many.

    Closes without an answer where they do not come in time.
    """

    _waiting = 0  # bytes since anything was handed on
    _too_large = _in_head = False
    _expiry: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client came, and has to say what it wants."""
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client left."""
        self._head_came()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """The first byte of a request has come."""
        super().on_message_begin()
        self._in_head = True

    def data_received(self, data: bytes) -> None:
        """Parse what came; whatever is not finished by now waits in the parser, and must not grow without end."""
        self._waiting += len(data)
        super().data_received(data)
        if self._in_head and self._expiry is None:  # the usual head comes whole, and needs no clock
            self._expect_head()
        if self._waiting > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._too_large = True
            self.send_400_response("")

    def on_headers_complete(self) -> None:
        """A head has come, in one piece or in many; the parser ends the connection where this raises."""
        size = len(self.url) + sum(map(len, chain.from_iterable(self.headers)))
        if size > MAX_HEAD_BYTES or len(self.headers) > MAX_HEADERS:
            self._too_large = True
            raise ValueError("the head of the request is too large")
        self._waiting = 0
        self._head_came()
        super().on_headers_complete()

    def _expect_head(self) -> None:
        self._expiry = self.loop.call_later(HEAD_TIMEOUT_S, self.transport.close)

    def _head_came(self) -> None:
        self._in_head = False
        if self._expiry:
            self._expiry.cancel()
            self._expiry = None

    def on_body(self, body: bytes) -> None:
        """A part of the body, which the application bounds."""
        self._waiting = 0
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        """The answer to a request that is none, or too large a one."""
        if not self._too_large:
            super().send_400_response(msg)
            return
        head = b"content-type: text/plain\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(_TOO_LARGE)
        given = b"".join(b"%s: %s\r\n" % header for header in self.server_state.default_headers)
        self.transport.write(STATUS_LINE[431] + given + head + _TOO_LARGE)
        self.transport.close()

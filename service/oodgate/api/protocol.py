"""uvicorn's HTTP with bounds that it lacks: on a request's head, on silence, on answers that are not read."""

import asyncio
from itertools import chain
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from oodgate.api.parser import StayingParser, head_without_offer

MAX_HEAD_BYTES = 32 * 2**10
MAX_HEADERS = 100
HEAD_TIMEOUT_S = 15.0
UNREAD_TIMEOUT_S = 30.0

_TOO_LARGE = b"Request header fields too large."


class BoundedProtocol(HttpToolsProtocol):
    """Answers 431 and closes where a request's line and headers, or its trailers, are too long or too many.

    Closes without an answer where they do not come in time, or answers pile up that the client does not read.
    """

    _waiting = 0  # bytes since anything was handed on
    _too_large = _in_head = False
    _expiry: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _head_again = b""  # of a request that offered another protocol, until it is read as one that does not

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.parser = StayingParser(self)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client came, and has to say what it wants."""
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client left."""
        self._head_came()
        self._was_read()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client reads more slowly than it is answered."""
        super().pause_writing()
        self._unread = self.loop.call_later(UNREAD_TIMEOUT_S, self.transport.abort)

    def resume_writing(self) -> None:
        """It has read most of what there was."""
        self._was_read()
        super().resume_writing()

    def on_message_begin(self) -> None:
        """The first byte of a request has come."""
        super().on_message_begin()
        self._in_head = True

    def data_received(self, data: bytes) -> None:
        """Parse what came; whatever is not finished by now waits in the parser, and must not grow without end."""
        self._waiting += len(data)
        super().data_received(data)
        if self._expiry is None and (self._in_head or self._is_silent()):  # the usual head comes whole, without a clock
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
        if self.parser.should_upgrade() and (method := self.parser.get_method()) != b"CONNECT":
            self._head_again = head_without_offer(method, self.url, self.parser.get_http_version(), self.headers)
        else:
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The end of a request, unless it is read again."""
        if not self._head_again:
            super().on_message_complete()

    def head_again(self) -> bytes:
        """What the parser reads in place of the head that it has just read."""
        head, self._head_again = self._head_again, b""
        return head

    def _expect_head(self) -> None:
        self._expiry = self.loop.call_later(HEAD_TIMEOUT_S, self.transport.close)

    def _is_silent(self) -> bool:
        """Whether neither an answer nor a timer of uvicorn's will follow what came: the rest of a refused body, say."""
        answered = self.cycle is None or self.cycle.response_complete
        return answered and self.timeout_keep_alive_task is None

    def _was_read(self) -> None:
        if self._unread:
            self._unread.cancel()
            self._unread = None

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

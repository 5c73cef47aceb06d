"""The way of most requests, one image for the default model: from the connection to the queue and back to it.

Read on from `Express`. It stands in the place of uvicorn's own cycle of a request and does what the endpoint does
(`predict.py`), with the same steps and the same errors. A task, the framework's requests and responses, its routing and
parameters cost more than everything else that the service itself does for an image.
"""

from asyncio import AbstractEventLoop, Transport
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Protocol, Self

import structlog
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.server import ServerState

from oodgate.api.access import REQUEST_ID_HEADER, choose_request_id
from oodgate.api.accounts import Accounts
from oodgate.api.checks import Check
from oodgate.api.handlers import cut_short, error_parts, unexpected
from oodgate.api.inquiry import Inquiry
from oodgate.api.leaving import client_left
from oodgate.api.limits import check_coding, check_size, check_type, header, late_body, media_type, not_empty
from oodgate.api.plain import PATH
from oodgate.api.rest import Rests
from oodgate.deadline import Deadline
from oodgate.errors import RequestError
from oodgate.settings import Settings

_JSON = (b"content-type", b"application/json")
_LARGE_PART = 4096  # bytes; smaller ones are gathered, as each by itself would take many times its size

log = structlog.stdlib.get_logger("oodgate")


@dataclass(frozen=True)
class Lane:
    """What answers plain requests, and what they have to pass before."""

    settings: Settings
    accounts: Accounts
    inquire: Callable[[Scope, str, int], Inquiry]  # with the id of a request, and the number of classes
    checks: Sequence[Check] = ()
    is_open: Callable[[], bool] = lambda: True
    path: str = PATH
    rests: Rests = field(default_factory=Rests)


class Connection(Protocol):
    """What a request needs of the connection that it came by."""

    scope: Any
    transport: Transport
    loop: AbstractEventLoop
    deadline: Deadline
    server_state: ServerState
    tasks: set[Any]

    def on_response_complete(self) -> None: ...  # noqa: D102


class Express:
    """One plain request, and the promise of its answer."""

    def __init__(self, lane: Lane, connection: Connection, keep_alive: bool, top_k: int) -> None:
        """The request has come as far as its headers."""
        self.keep_alive = keep_alive
        self.disconnected = self.response_complete = False
        self._lane, self._connection, self._scope = lane, connection, connection.scope
        self._start, self._top_k = perf_counter(), top_k
        self._id = choose_request_id(self._scope)
        self._scope["route"] = lane
        self._scope["state"] |= {"request_id": self._id, "client_key": ""}
        self._parts: list[bytes | bytearray] = []
        self._received_bytes = 0
        self._inquiry: Inquiry | None = None

    def begin(self) -> None:
        """Refuse what can be refused before the body is read."""
        self._lane.accounts.open()
        self._connection.tasks.add(self)
        self._safely(self._admit)

    def receive(self, part: bytes) -> None:
        """A part of the body has come."""
        if not self.response_complete:
            self._safely(self._take, part)

    def received(self) -> None:
        """The whole body has come."""
        if not self.response_complete:
            self._safely(self._submit)

    @property
    def message_event(self) -> Self:
        """Where uvicorn says that something has happened to the connection."""
        return self

    def set(self) -> None:
        """The connection has ended, or it is done with this request."""
        if self.disconnected and not self.response_complete:
            self._withdraw()
            error = client_left()
            self._lane.accounts.refuse(error)
            self._close(error.status, code=error.code)

    def cancel(self, msg: object = None) -> None:
        """The time to drain is over, and uvicorn ends what it believes to be a task."""
        self.get_loop().call_soon(self._give_up)

    def get_loop(self) -> AbstractEventLoop:
        """The loop of its connection."""
        return self._connection.loop

    def done(self) -> bool:
        """Whether nobody waits for an answer any more."""
        return self.response_complete

    def set_result(self, answer: Any, /) -> None:
        """The image has been judged."""
        self._safely(self._answer, answer)

    def set_exception(self, error: BaseException, /) -> None:
        """The image has not been judged."""
        if isinstance(error, RequestError):  # raised, it would be tied to this request by its traceback
            self._refuse(error)
        else:
            self._safely(self._fail, error)

    def _admit(self) -> None:
        for check in self._lane.checks:
            check(self._scope)
        settings = self._lane.settings
        self._inquiry = self._lane.inquire(self._scope, self._id, self._top_k)
        check_coding(self._scope)
        check_type(media_type(header(self._scope, b"content-type")), settings.content_types)
        check_size(int(header(self._scope, b"content-length") or 0), settings.max_bytes)
        timeout_ms = settings.body_timeout_ms
        self._expire_after(timeout_ms, lambda: late_body(timeout_ms))

    def _take(self, part: bytes) -> None:
        self._received_bytes += len(part)
        check_size(self._received_bytes, self._lane.settings.max_bytes)
        if len(part) >= _LARGE_PART or not self._parts:
            self._parts.append(part)
        elif isinstance(self._parts[-1], bytearray):
            self._parts[-1] += part
        else:
            self._parts.append(bytearray(part))

    def _submit(self) -> None:
        assert self._inquiry is not None  # noqa: S101 - the request was let in
        data = not_empty(b"".join(self._parts))
        self._parts.clear()
        self._inquiry.submit(data, self)
        self._expire_after(self._inquiry.patience_ms, self._inquiry.too_late)

    def _answer(self, answer: Any) -> None:
        assert self._inquiry is not None  # noqa: S101 - it has its answer
        answered = self._inquiry.conclude(answer)
        self._send(200, (_JSON,), answered.document, decision=answered.decision)

    def _fail(self, error: BaseException) -> None:
        raise error

    def _expire_after(self, timeout_ms: float, why: Callable[[], RequestError]) -> None:
        def expire() -> None:
            self._withdraw()
            self._refuse(why())

        self._connection.deadline.set(timeout_ms / 1000, expire)

    def _give_up(self) -> None:
        if not self.response_complete:
            self._withdraw()
            self._refuse(cut_short())

    def _withdraw(self) -> None:
        if self._inquiry:
            self._inquiry.withdraw(self)

    def _safely(self, step: Callable[..., None], *given: object) -> None:
        """Whatever happens in a step, the request gets an answer."""
        try:
            step(*given)
        except RequestError as error:
            self._refuse(error)
        except Exception:
            log.exception("unexpected error", request_id=self._id)
            self._refuse(unexpected())

    def _refuse(self, error: RequestError) -> None:
        if not self.response_complete:
            self._lane.accounts.refuse(error)
            self._lane.rests.rest_after(error)
            headers, body = error_parts(error, self._scope["path"], self._id)
            encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
            self._send(error.status, encoded, body, code=error.code)

    def _send(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes, **facts: str) -> None:
        own = ((b"content-length", b"%d" % len(body)), (REQUEST_ID_HEADER, self._id.encode()))
        pieces = [STATUS_LINE[status]]
        for name, value in (*self._connection.server_state.default_headers, *headers, *own):
            pieces += (name, b": ", value, b"\r\n")
        pieces += (b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n", body)
        if not self._connection.transport.is_closing():  # else the rest of what the client sent was no HTTP
            self._connection.transport.write(b"".join(pieces))
        self._close(status, **facts)
        if not self.keep_alive:
            self._connection.transport.close()

    def _close(self, status: int, **facts: str) -> None:
        self.response_complete = True
        self._connection.deadline.clear()
        self._connection.tasks.discard(self)
        if self._inquiry:
            self._inquiry.close()
        # The connection keeps this request until its next, and must not keep the image.
        self._inquiry = None
        self._parts.clear()
        if key := self._scope["state"]["client_key"]:
            facts["client_key"] = key
        seconds = perf_counter() - self._start
        self._lane.accounts.close(self._scope, status, seconds, request_id=self._id, **facts)
        self._connection.on_response_complete()

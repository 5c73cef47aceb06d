"""Around every request: its id, what it has to pass, its account, the answer to an error that nobody expected."""

import asyncio
import re
from collections.abc import Sequence
from random import Random
from secrets import token_bytes
from time import perf_counter

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from oodgate.api.accounts import Accounts
from oodgate.api.checks import Check
from oodgate.api.handlers import cut_short, error_response, unexpected
from oodgate.errors import RequestError

REQUEST_ID = "X-Request-Id"
REQUEST_ID_HEADER = REQUEST_ID.lower().encode()
_ID_BITS = 128
_PLAIN = re.compile(r"[A-Za-z0-9._:-]{1,128}")

_ids = Random(token_bytes(32))  # noqa: S311 - ids have to be distinct, not secret, and the system's cost a call of it

log = structlog.stdlib.get_logger("oodgate")


class Access:
    """Outermost layer of the service."""

    def __init__(self, app: ASGIApp, accounts: Accounts, checks: Sequence[Check] = ()) -> None:
        self._app = app
        self._accounts = accounts
        self._checks = checks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = perf_counter(), 0
        request_id = choose_request_id(scope)
        scope.setdefault("state", {}).update(request_id=request_id, client_key="")
        structlog.contextvars.clear_contextvars()  # of a request before it on the connection, whose context it began in
        structlog.contextvars.bind_contextvars(request_id=request_id)

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (REQUEST_ID_HEADER, request_id.encode())]
            await send(message)

        async def answer_instead(error: RequestError) -> None:
            if status == 0:
                self._accounts.refuse(error)
                structlog.contextvars.bind_contextvars(code=error.code)
                await error_response(error, scope["path"], request_id)(scope, receive, send_with_id)

        self._accounts.open()
        try:
            self._check(scope)
            await self._app(scope, receive, send_with_id)
        except RequestError as error:
            await answer_instead(error)
        except asyncio.CancelledError:  # uvicorn cancels what is left when the time to drain is over, and only then
            await answer_instead(cut_short())
        except Exception:
            log.exception("unexpected error")
            await answer_instead(unexpected())
        finally:
            facts = structlog.contextvars.get_contextvars()  # with what was bound on the way
            self._accounts.close(scope, status, perf_counter() - start, **facts)

    def _check(self, scope: Scope) -> None:
        try:
            for check in self._checks:
                check(scope)
        finally:
            if key := scope["state"]["client_key"]:
                structlog.contextvars.bind_contextvars(client_key=key)


def choose_request_id(scope: Scope) -> str:
    """The client's id where it is short and plain, a new one otherwise."""
    for name, value in scope["headers"]:
        if name == REQUEST_ID_HEADER:
            offered: str = value.decode("latin-1")
            return offered if is_plain(offered) else new_request_id()
    return new_request_id()


def new_request_id() -> str:
    """A hexadecimal number that no other request has."""
    return f"{_ids.getrandbits(_ID_BITS):0{_ID_BITS // 4}x}"


def is_plain(offered: str) -> bool:
    """Whether a header's value is short and has no letter that means something in a log or a label."""
    return _PLAIN.fullmatch(offered) is not None

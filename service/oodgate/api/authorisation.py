"""Who may ask: a request for anything but probes and pages brings a key that has the scope of its endpoint."""

import asyncio

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from oodgate.api.key_ring import KeyRing
from oodgate.api.kinds import Kind, Kinds
from oodgate.api_keys import SCOPES, ApiKey
from oodgate.errors import Forbidden, Unauthorized

_BEARER = b"bearer "


class Authorisation:
    """Hands on requests with the name of their key in the state, `client_key`."""

    def __init__(self, app: ASGIApp, endpoints: Kinds, keys: KeyRing) -> None:
        self._app = app
        self._endpoints = endpoints
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102
        if scope["type"] == "lifespan":
            await self._watching(scope, receive, send)
            return
        self.check(scope)
        if name := scope["state"]["client_key"]:
            structlog.contextvars.bind_contextvars(client_key=name)
        await self._app(scope, receive, send)

    def check(self, scope: Scope) -> None:
        """Note the name of a request's key; raises Unauthorized or Forbidden where it may not ask."""
        kind = self._endpoints.kind(scope["path"])
        if kind in SCOPES:
            scope["state"]["client_key"] = self._key(scope, kind).name

    def _key(self, scope: Scope, kind: Kind | None) -> ApiKey:
        """The key of a request; raises Unauthorized, or Forbidden where it is not meant for this kind."""
        offered = offered_key(scope)
        key = self._keys.find(offered) if offered else None
        if key is None:
            wrong = "the key is not known" if offered else "there is no key"
            raise Unauthorized(f"{wrong}; send one that the operator gave you as 'Authorization: Bearer KEY'")
        if kind not in key.scopes:
            raise Forbidden(f"this needs a key with the scope '{kind}'; ask the operator for one")
        return key

    async def _watching(self, scope: Scope, receive: Receive, send: Send) -> None:
        watch = asyncio.create_task(self._keys.watch())
        try:
            await self._app(scope, receive, send)
        finally:
            watch.cancel()


def offered_key(scope: Scope) -> bytes | None:
    """The first key among the headers: a bearer token, or X-Api-Key."""
    for name, value in scope["headers"]:
        if name == b"authorization" and value[: len(_BEARER)].lower() == _BEARER:
            token: bytes = value[len(_BEARER) :].strip()
            return token
        if name == b"x-api-key":
            key: bytes = value
            return key
    return None

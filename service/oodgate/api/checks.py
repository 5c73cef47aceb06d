"""What a request has to pass before anything else of it is looked at."""

from collections.abc import Callable
from contextlib import suppress

from starlette.types import Scope
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from oodgate.api.authorisation import Authorisation
from oodgate.api.doors import Doors
from oodgate.api.key_ring import KeyRing
from oodgate.api.kinds import Kinds
from oodgate.settings import Settings

Check = Callable[[Scope], None]
"""Raises the RequestError with which a request is refused."""


def checks_of(settings: Settings, endpoints: Kinds, keys: KeyRing | None) -> list[Check]:
    """Name and port, then the key, as far as the operator has told any; without keys everybody may ask."""
    checks: list[Check] = []
    if settings.hosts or settings.admin_port:
        checks.append(Doors(endpoints, settings.hosts, settings.admin_port).check)
    if keys:
        checks.append(Authorisation(endpoints, keys).check)
    return checks


def believing(proxies: list[str]) -> list[Check]:
    """What puts the client in the place of a trusted proxy, as uvicorn does for an application."""
    if not proxies:
        return []

    async def nothing(*_: object) -> None:
        pass

    layer = ProxyHeadersMiddleware(nothing, proxies)

    def believe(scope: Scope) -> None:
        with suppress(StopIteration):  # it waits for nothing, and so is done at its first step
            layer(scope, None, None).send(None)  # type: ignore[arg-type]

    return [believe]

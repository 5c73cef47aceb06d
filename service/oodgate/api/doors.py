"""By which name and at which port the service is asked, before anything else is looked at."""

import re

from starlette.types import Scope

from oodgate.api.kinds import Kinds
from oodgate.errors import HostRefused, NotFound

_HOST = re.compile(rb"(\[[^\]]*\]|[^:]*)(?::\d*)?")
_OPERATORS = ("page", "metrics", "admin")


class Doors:
    """Refuses names that are not allowed, and what only operators ask for where a port of its own has it."""

    def __init__(self, endpoints: Kinds, hosts: frozenset[str], admin_port: int) -> None:
        """Any name is allowed where there are no `hosts`, and every port has everything where `admin_port` is 0."""
        self._endpoints = endpoints
        self._hosts = hosts
        self._admin_port = admin_port

    def check(self, scope: Scope) -> None:
        """Raise HostRefused or NotFound where a request has come by the wrong name or port."""
        kind = self._endpoints.kind(scope["path"])
        if kind != "probe" and self._hosts and not is_allowed(asked_name(scope), self._hosts):
            raise HostRefused("this service does not go by the name in 'Host'; use one that its operator allows")
        if kind in _OPERATORS and self._admin_port not in (0, scope["server"][1]):
            raise NotFound(f"there is nothing at {scope['path']}")


def asked_name(scope: Scope) -> str:
    """The host that a request names, in lower case and without its port; empty where it is not exactly one."""
    named = [value for name, value in scope["headers"] if name == b"host"]
    found = _HOST.fullmatch(named[0]) if len(named) == 1 else None
    return found[1].decode("latin-1").lower() if found else ""


def is_allowed(name: str, hosts: frozenset[str]) -> bool:
    """Whether a name is one of the hosts, or lies below one that begins with `*.`."""
    if name in hosts:
        return True
    labels = name.split(".")
    return any(".".join(["*", *labels[depth:]]) in hosts for depth in range(1, len(labels)))

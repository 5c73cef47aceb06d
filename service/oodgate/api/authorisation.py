"""Who may ask: a request for anything but probes and pages brings a key that has the scope of its endpoint."""

from starlette.types import Scope

from oodgate.api.key_ring import KeyRing
from oodgate.api.kinds import Kinds
from oodgate.api_keys import SCOPES, ApiKey
from oodgate.errors import Forbidden, Unauthorized

_BEARER = b"bearer "


class Authorisation:
    """Knows which key may ask for what."""

    def __init__(self, endpoints: Kinds, keys: KeyRing) -> None:
        self._endpoints = endpoints
        self._keys = keys

    def check(self, scope: Scope) -> None:
        """Note the name of a request's key in its state, `client_key`.

        Raises Unauthorized where there is none, or Forbidden where it is not meant for this kind of endpoint.
        """
        kind = self._endpoints.kind(scope["path"])
        if kind not in SCOPES:
            return
        key = self._key(scope)
        scope["state"]["client_key"] = key.name
        if kind not in key.scopes:
            raise Forbidden(f"this needs a key with the scope '{kind}'; ask the operator for one")

    def _key(self, scope: Scope) -> ApiKey:
        offered = offered_key(scope)
        key = self._keys.find(offered) if offered else None
        if key is None:
            wrong = "the key is not known" if offered else "there is no key"
            raise Unauthorized(f"{wrong}; send one that the operator gave you as 'Authorization: Bearer KEY'")
        return key


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

"""Where an image came from: who sent it, under which id, as which file, and how long its client waits."""

import math
import re
from functools import lru_cache
from hashlib import blake2b
from secrets import token_bytes
from typing import Literal, NamedTuple

from starlette.types import Scope

from oodgate.api.access import is_plain
from oodgate.api.limits import header
from oodgate.errors import InvalidParameter

CLIENT_ID = b"x-client-id"
TIMEOUT_MS = b"x-request-timeout-ms"
_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")

_KEY = token_bytes(32)  # of this process alone: nobody finds the client to a hash by trying


class Origin(NamedTuple):
    """What is known of an image before it is judged."""

    client: str | None = None  # a hash, as of `client_of`
    prediction_id: str = ""
    file: bytes | None = None  # as it was received; pixels have none
    lane: str = ""  # of the queue
    patience_ms: float = math.inf  # of the client; the service has a limit of its own


NOWHERE = Origin()


def origin_of(scope: Scope, prediction_id: str, lane: Literal["one", "many"] = "one") -> Origin:
    """What a request says of its images; the clients' keys take turns, and so do requests of one image and of many.

    Raises InvalidParameter where the client's patience is no time.
    """
    return Origin(client_of(scope), prediction_id, lane=lane_of(scope, lane), patience_ms=patience_ms_of(scope))


def lane_of(scope: Scope, lane: Literal["one", "many"] = "one") -> str:
    """The lane of the queue in which the images of a request wait."""
    return f"{lane} {scope['state'].get('client_key', '')}"


def patience_ms_of(scope: Scope) -> float:
    """X-Request-Timeout-Ms, infinite where it is not given; raises InvalidParameter where it is no time."""
    text = header(scope, TIMEOUT_MS)
    if not text:
        return math.inf
    if not _NUMBER.fullmatch(text) or float(text) <= 0:
        raise InvalidParameter(f"X-Request-Timeout-Ms is '{text[:20]}', expected milliseconds above 0, such as 250")
    return float(text)


def client_of(scope: Scope) -> str:
    """A hash of what tells clients apart: their key, else X-Client-Id where it is short and plain, else the address."""
    return hash_of_client(told_client(scope))


@lru_cache(4096)
def hash_of_client(told: str) -> str:
    """The hash of what `told_client` says."""
    return blake2b(told.encode(), key=_KEY, digest_size=8).hexdigest()


def told_client(scope: Scope) -> str:
    """What tells clients apart, in words; nobody but the processes of the service may know more than its hash."""
    if name := scope["state"].get("client_key"):  # what the operator gave, before what anybody can write
        return f"key {name}"
    offered = header(scope, CLIENT_ID)
    return f"id {offered}" if is_plain(offered) else f"address {scope['client'][0] if scope.get('client') else ''}"

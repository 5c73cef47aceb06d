"""Where an image came from: who sent it, under which id, as which file."""

from dataclasses import dataclass
from hashlib import blake2b
from secrets import token_bytes

from starlette.requests import Request

from oodgate.api.access import is_plain
from oodgate.api.limits import header

CLIENT_ID = b"x-client-id"

_KEY = token_bytes(32)  # of this process alone: nobody finds the client to a hash by trying


@dataclass(frozen=True, slots=True)
class Origin:
    """What is known of an image before it is judged."""

    client: str | None = None  # a hash, as of `client_of`
    prediction_id: str = ""
    file: bytes | None = None  # as it was received; pixels have none


NOWHERE = Origin()


def client_of(request: Request) -> str:
    """A hash of what tells clients apart: X-Client-Id where it is short and plain, else the address."""
    offered = header(request, CLIENT_ID)
    key = f"id {offered}" if is_plain(offered) else f"address {request.client.host if request.client else ''}"
    return blake2b(key.encode(), key=_KEY, digest_size=8).hexdigest()

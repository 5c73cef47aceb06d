"""Which requests are plain: one image for the default model, and nothing that needs the web framework."""

import re

from starlette.types import Scope

from oodgate.api.limits import MULTIPART, header, media_type

PATH = "/v1/predict"
DEFAULT_TOP_K = 5

_PLAIN_TOP_K = re.compile(rb"top_k=([1-9][0-9]{0,2})")


def plain_top_k(scope: Scope) -> int | None:
    """The number of classes that a plain request to predict asks for; None where it is not one."""
    if scope["path"] != PATH or scope["method"] != "POST":
        return None
    if media_type(header(scope, b"content-type")) == MULTIPART:
        return None
    query = scope["query_string"]
    if not query:
        return DEFAULT_TOP_K
    plain = _PLAIN_TOP_K.fullmatch(query)
    return int(plain[1]) if plain else None

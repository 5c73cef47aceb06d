"""HTTP/1.1 to its end: a connection never becomes another protocol's, which a server may decide (RFC 9110, 7.8)."""

from collections.abc import Iterable
from typing import Any, Protocol

import httptools

Header = tuple[bytes, bytes]

_OFFERS = (b"upgrade", b"http2-settings")


class Teller(Protocol):
    """What is told of requests, and asked for the head of one that offered another protocol."""

    def head_again(self) -> bytes: ...  # noqa: D102


class StayingParser(httptools.HttpRequestParser):
    """Reads requests that offer another protocol as if they did not.

    httptools ends such a request at its head and would read its body as the next request.
    """

    def __init__(self, protocol: Teller) -> None:
        """`protocol` has httptools' callbacks, and must neither begin nor end a request whose head it gives again."""
        super().__init__(protocol)
        self.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn, for requests behind a last one
        self._protocol = protocol

    def feed_data(self, data: Any) -> None:
        """Parse the bytes that came; raises httptools.HttpParserError where they are no HTTP."""
        while data:
            try:
                super().feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = self._protocol.head_again() + data[upgrade.args[0] :]
            else:
                return


def head_without_offer(method: bytes, url: bytes, version: str, headers: Iterable[Header]) -> bytes:
    """The head of a request that offers no other protocol, in place of one that does."""
    lines = [b"%s %s HTTP/%s" % (method, url, version.encode())]
    for name, value in headers:
        if name == b"connection":
            value = b", ".join(token for token in value.split(b",") if token.strip().lower() not in _OFFERS)
        if name not in _OFFERS and (value or name != b"connection"):
            lines.append(b"%s: %s" % (name, value))
    return b"\r\n".join([*lines, b"", b""])

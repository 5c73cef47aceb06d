"""Requests that offer another protocol are read as if they did not."""

import httptools
import pytest

from oodgate.api.parser import StayingParser, head_without_offer

OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n"
INNER = b"GET /inner HTTP/1.1\r\nHost: a\r\n\r\n"


class Listener:
    """Keeps what it is told, and reads again what offers another protocol."""

    def __init__(self) -> None:
        self.seen: list[tuple[bytes, bytes]] = []  # URL and body of each request
        self._again = b""
        self.parser = StayingParser(self)

    def on_message_begin(self) -> None:
        self.url, self.body, self.headers = b"", b"", []

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            self._again = head_without_offer(self.parser.get_method(), self.url, "1.1", self.headers)

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        if not self._again:
            self.seen.append((self.url, self.body))

    def head_again(self) -> bytes:
        head, self._again = self._again, b""
        return head


def post(body: bytes, offer: bytes = OFFER) -> bytes:
    return b"POST /x HTTP/1.1\r\nHost: a\r\n%sContent-Length: %d\r\n\r\n" % (offer, len(body)) + body


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize("offer", [b"", OFFER, b"Connection: upgrade\r\nUpgrade: websocket\r\n"])
def test_a_body_stays_the_body_of_its_request(offer: bytes, size: int) -> None:
    listener, stream = Listener(), post(INNER, offer) + INNER + post(b"", offer) + post(b"end", offer)
    for start in range(0, len(stream), size):
        listener.parser.feed_data(stream[start : start + size])
    assert listener.seen == [(b"/x", INNER), (b"/inner", b""), (b"/x", b""), (b"/x", b"end")]


def test_any_number_of_offers_is_read() -> None:
    listener = Listener()
    listener.parser.feed_data(post(b"body") * 5000)
    assert listener.seen == [(b"/x", b"body")] * 5000


def test_a_tunnel_is_told_as_any_request() -> None:
    listener = Listener()
    listener.parser.feed_data(b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n" + INNER)
    assert listener.seen == [(b"a:1", b""), (b"/inner", b"")]


def test_what_is_no_http_is_still_refused() -> None:
    with pytest.raises(httptools.HttpParserError):
        Listener().parser.feed_data(post(b"body") + b"\x00nonsense\r\n\r\n")


def test_a_head_loses_its_offer_and_nothing_else() -> None:
    headers = [(b"host", b"a"), (b"upgrade", b"h2c"), (b"connection", b"Upgrade, close"), (b"x", b"y")]
    expected = b"GET /p?q HTTP/1.1\r\nhost: a\r\nconnection:  close\r\nx: y\r\n\r\n"
    assert head_without_offer(b"GET", b"/p?q", "1.1", headers) == expected

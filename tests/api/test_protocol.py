"""Clients that take their time to say what they want."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from threading import Thread
from time import monotonic, sleep

import pytest
import uvicorn
from starlette.responses import PlainTextResponse

from oodgate.api import protocol
from oodgate.api.protocol import BoundedProtocol

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n"
TIMEOUT_S = 0.3


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    """Where a server listens that gives a client a third of a second for its head."""
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT_S", TIMEOUT_S)
    app = PlainTextResponse("here")
    config = uvicorn.Config(app, http=BoundedProtocol, ws="none", lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # so that unread answers are soon too many
    thread = Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield listening.getsockname()
    server.should_exit = True
    thread.join()


def closed_after_s(client: socket.socket) -> float:
    """How long the server keeps a connection on which it has nothing to say."""
    start = monotonic()
    client.settimeout(30)
    assert client.recv(1) == b""
    return monotonic() - start


def answer_of(client: socket.socket) -> bytes:
    """A whole answer, which may come in several pieces."""
    answer = b""
    while not answer.endswith(b"here"):
        piece = client.recv(65536)
        assert piece
        answer += piece
    return answer


@pytest.mark.parametrize("start", [b"", HEAD])
def test_a_head_that_does_not_come_ends_the_connection(address: tuple[str, int], start: bytes) -> None:
    with socket.create_connection(address) as client:
        client.sendall(start)
        assert closed_after_s(client) >= TIMEOUT_S / 2


def test_every_request_of_a_connection_has_its_own_time(address: tuple[str, int]) -> None:
    with socket.create_connection(address) as client:
        for _ in range(3):
            client.sendall(HEAD + b"\r\n")
            assert answer_of(client).startswith(b"HTTP/1.1 200 ")
            sleep(TIMEOUT_S)
        client.sendall(HEAD)
        assert closed_after_s(client) >= TIMEOUT_S / 2


def test_trickling_does_not_prolong_it(address: tuple[str, int]) -> None:
    begun = monotonic()
    with socket.create_connection(address) as client, pytest.raises(OSError):
        for _ in range(1000):
            client.sendall(b"X")
            sleep(0.02)
    assert monotonic() - begun < 10 * TIMEOUT_S + 5


@pytest.mark.parametrize("behind", [b"\r\n", b"\n\r\n\r\n"])
def test_silence_behind_an_answer_ends_the_connection(address: tuple[str, int], behind: bytes) -> None:
    with socket.create_connection(address) as client:
        client.sendall(HEAD + b"\r\n")
        assert answer_of(client).startswith(b"HTTP/1.1 200 ")
        client.sendall(behind)
        assert closed_after_s(client) >= TIMEOUT_S / 2


@pytest.mark.parametrize(("timeout_s", "all_come"), [(TIMEOUT_S, False), (60.0, True)])
def test_answers_that_are_not_read_end_the_connection(
    address: tuple[str, int], monkeypatch: pytest.MonkeyPatch, timeout_s: float, all_come: bool
) -> None:
    monkeypatch.setattr(protocol, "UNREAD_TIMEOUT_S", timeout_s)
    requests, answers = 3000, b""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(address)
        client.sendall((HEAD + b"\r\n") * requests)
        sleep(10 * TIMEOUT_S)  # many times what it takes to answer more than fits, and to wait
        client.settimeout(30)
        with suppress(ConnectionResetError):
            while answers.count(b"here") < requests and (piece := client.recv(65536)):
                answers += piece
    assert (answers.count(b"here") == requests) is all_come

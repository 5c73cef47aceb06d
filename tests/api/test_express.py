"""Plain requests go past the web framework's layers, and are answered as the others are."""

import asyncio
import gc
import random
import re
import socket
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import httpx
import pytest
import structlog
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import Response
from starlette.types import Scope

from conftest import encoded, random_picture
from contract import eventually, exchange, metric, predict, read_prediction, serving
from networks import plain, trouble_bundle
from oodgate.api.accounts import Accounts
from oodgate.api.app import create_metrics
from oodgate.api.checks import Check, believing
from oodgate.api.express import Express, Lane
from oodgate.api.inquiry import Answered, OwnInquiry
from oodgate.api.plain import plain_top_k
from oodgate.api.repository import Repository
from oodgate.api.schemas import Prediction, Problem
from oodgate.api.service_protocol import ServiceProtocol
from oodgate.settings import Settings

PNG = encoded(random_picture(0))


@pytest.mark.parametrize(
    ("method", "path", "query", "expected"),
    [
        ("POST", "/v1/predict", b"", 5),
        ("POST", "/v1/predict", b"top_k=1", 1),
        ("POST", "/v1/predict", b"top_k=999", 999),
        ("POST", "/v1/predict", b"top_k=1000", None),
        ("POST", "/v1/predict", b"top_k=0", None),
        ("POST", "/v1/predict", b"top_k=two", None),
        ("POST", "/v1/predict", b"top_k=1&top_k=2", None),
        ("POST", "/v1/predict", b"other=1", None),
        ("POST", "/v1/predict/", b"", None),
        ("GET", "/v1/predict", b"", None),
    ],
)
def test_only_plain_requests_take_it(method: str, path: str, query: bytes, expected: int | None) -> None:
    scope = {"type": "http", "method": method, "path": path, "query_string": query, "headers": []}
    assert plain_top_k(scope) == expected


def test_both_ways_give_the_same_answer(bundle_folder: Path, tmp_path: Path) -> None:
    with serving(bundle_folder, tmp_path) as client:
        short = read_prediction(predict(client, PNG, top_k=2))
        long = read_prediction(predict(client, PNG, top_k=2, other=1))
    assert short.predictions == long.predictions
    assert short.ood == long.ood


@pytest.fixture(scope="module")
def client(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with serving(bundle_folder, tmp_path_factory.mktemp("logs"), max_batch=4, max_bytes=10_000) as connected:
        yield connected


def post(body: bytes, *headers: str, version: str = "1.1") -> bytes:
    """The bytes of a plain request."""
    lines = [f"POST /v1/predict HTTP/{version}", "Host: a", "Content-Type: image/png", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def with_length(body: bytes, *headers: str, version: str = "1.1") -> bytes:
    return post(body, f"Content-Length: {len(body)}", *headers, version=version)


def chunked(body: bytes, size: int) -> bytes:
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in [*parts, b""])


def test_a_body_in_chunks_is_put_together(client: httpx.Client) -> None:
    answer = exchange(client, post(chunked(PNG, 100), "Transfer-Encoding: chunked", "Connection: close"))
    assert answer.startswith(b"HTTP/1.1 200 ")
    body = Prediction.model_validate_json(answer.partition(b"\r\n\r\n")[2])
    assert body.predictions == read_prediction(predict(client, PNG)).predictions


def test_chunks_beyond_the_limit_are_refused_and_the_connection_goes_on(client: httpx.Client) -> None:
    large = post(chunked(bytes(20_000), 1000), "Transfer-Encoding: chunked")
    answer = exchange(client, large + with_length(PNG, "Connection: close"))
    first, _, second = answer.partition(b"HTTP/1.1 200 ")
    assert first.startswith(b"HTTP/1.1 413 ")
    assert b'"code":"too_many_bytes"' in first
    assert b'"decision"' in second


def test_requests_that_do_not_wait_for_answers_are_answered_in_order(client: httpx.Client) -> None:
    names = [f"number-{index}" for index in range(5)]
    requests = [with_length(PNG, f"X-Request-Id: {name}") for name in names[:-1]]
    answer = exchange(
        client, b"".join([*requests, with_length(PNG, f"X-Request-Id: {names[-1]}", "Connection: close")])
    )
    assert answer.count(b"HTTP/1.1 200 ") == 5
    assert re.findall(rb"x-request-id: ([\w-]+)", answer) == [name.encode() for name in names]


@pytest.mark.parametrize(("version", "headers"), [("1.1", ["Connection: close"]), ("1.0", [])])
def test_the_connection_ends_where_the_client_wants_it_to(
    client: httpx.Client, version: str, headers: list[str]
) -> None:
    answer = exchange(client, with_length(PNG, *headers, version=version))
    head = answer.partition(b"\r\n\r\n")[0]
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in head


def test_a_client_that_waits_for_a_go_ahead_gets_it(client: httpx.Client) -> None:
    answer = exchange(client, with_length(PNG, "Expect: 100-continue", "Connection: close"))
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 ")


def test_an_answer_has_one_of_each_header(client: httpx.Client) -> None:
    head = exchange(client, with_length(PNG, "Connection: close")).partition(b"\r\n\r\n")[0]
    names = [line.partition(b":")[0].lower() for line in head.split(b"\r\n")[1:]]
    expected = ["connection", "content-length", "content-type", "date", "x-content-type-options", "x-request-id"]
    assert sorted(names) == [name.encode() for name in expected]


def lane_of(repository: Repository, *checks: Check) -> Lane:
    return Lane(repository.settings, Accounts(repository.metrics), partial(OwnInquiry, repository), checks)


def test_what_nobody_expected_is_answered_and_logged(bundle_folder: Path) -> None:
    connection, repository = FakeConnection(), Repository(Settings(bundle=bundle_folder, max_batch=1), create_metrics())

    def fail(_: Scope) -> None:
        raise LookupError("a fault of the service")

    express = Express(lane_of(repository, fail), connection, keep_alive=True, top_k=1)
    with structlog.testing.capture_logs() as logs:
        express.begin()
    head, _, body = connection.transport.written.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 500 ")
    assert Problem.model_validate_json(body).code == "internal_error"
    assert "unexpected error" in [record["event"] for record in logs]
    assert (express.done(), connection.tasks, connection.completed) == (True, set(), 1)


@pytest.mark.parametrize(("peer", "seen"), [("10.0.0.9", "203.0.113.7"), ("10.9.9.9", "10.9.9.9")])
def test_a_trusted_proxy_speaks_for_its_client_and_nobody_else_does(peer: str, seen: str) -> None:
    scope = {"type": "http", "scheme": "http", "client": (peer, 5), "headers": [(b"x-forwarded-for", b"203.0.113.7")]}
    (believe,) = believing(["10.0.0.9"])
    believe(scope)
    assert scope["client"][0] == seen
    assert believing([]) == []


@pytest.fixture
def apart(bundle_folder: Path) -> Iterator[str]:
    """The address of a service whose application has nothing but teapots: what it does not answer went by the lane."""
    repository = Repository(Settings(bundle=bundle_folder, device="cpu", max_batch=1), create_metrics())
    protocol = partial(ServiceProtocol, lane=lane_of(repository))
    config = uvicorn.Config(Response(status_code=418), http=protocol, loop="uvloop", lifespan="off", log_config=None)
    server, listening = uvicorn.Server(config), socket.create_server(("127.0.0.1", 0))
    thread = Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join()
    asyncio.run(repository.close())


def test_plain_requests_do_not_reach_the_application(apart: str) -> None:
    with httpx.Client(base_url=apart) as client:
        read_prediction(predict(client, PNG))
        read_prediction(predict(client, PNG, top_k=2))
        assert predict(client, PNG, other=1).status_code == 418
        assert client.get("/healthz").status_code == 418
        assert client.post("/v1/predict", files={"file": PNG}).status_code == 418


class FakeTransport:
    """Keeps what is written."""

    written, closing = b"", False

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: bytes) -> None:
        self.written += data


class FakeConnection:
    """As much of a connection as a request needs."""

    def __init__(self) -> None:
        self.scope = {"type": "http", "method": "POST", "path": "/v1/predict", "state": {}}
        self.scope["headers"] = [(b"content-type", b"image/png")]
        self.transport = FakeTransport()
        self.server_state = SimpleNamespace(default_headers=[])
        self.deadline = SimpleNamespace(set=lambda delay_s, on_late: None, clear=lambda: None)
        self.tasks: set[object] = set()
        self.completed = 0

    def on_response_complete(self) -> None:
        self.completed += 1


class KeptInquiry:
    """Keeps the file that it is asked about."""

    patience_ms, data = 1.0, b""

    def submit(self, data: bytes, promise: object) -> None:
        self.data = data

    def conclude(self, answer: object) -> Answered:
        return Answered(b"{}", "accept")

    def too_late(self) -> None: ...

    def withdraw(self, promise: object) -> None: ...

    def close(self) -> None: ...


@pytest.fixture
def slow(image_folder: Path, tmp_path: Path) -> Iterator[httpx.Client]:
    """A service that takes a while for a white picture."""
    bundle = trouble_bundle(tmp_path / "slow", image_folder, seconds=0.05)
    with serving(bundle, tmp_path, max_batch=4, workers=1) as connected:
        yield connected


def test_a_request_behind_it_that_is_none_harms_nobody_else(slow: httpx.Client) -> None:
    spoilt = with_length(PNG) + b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n" + b"\x00\r\n\r\n"
    with ThreadPoolExecutor(8) as threads:
        honest = [threads.submit(predict, slow, plain("white")) for _ in range(20)]
        for _ in range(20):
            assert b"HTTP/1.1 400 " in exchange(slow, spoilt)
        assert {future.result().status_code for future in honest} == {200}
    eventually(lambda: metric(slow, "in_flight") == 1)  # the scrape
    assert metric(slow, "http_requests_total", route="/v1/predict", status="499") == 20
    assert metric(slow, "refused_total", reason="internal_error") == 0


@pytest.mark.parametrize(
    "offer", [("Upgrade: h2c", "Connection: Upgrade"), ("Connection: upgrade", "Upgrade: websocket")]
)
def test_a_client_that_offers_another_protocol_is_answered_in_this_one(
    client: httpx.Client, offer: tuple[str, str]
) -> None:
    request, last = with_length(PNG, *offer), with_length(b"GET / HTTP/1.1\r\n\r\n", *offer)
    answer = exchange(client, request + last + with_length(PNG, "Connection: close"))
    assert re.findall(rb"HTTP/1.1 (\d+) ", answer) == [b"200", b"400", b"200"]


def begun(connection: FakeConnection, inquiry: KeptInquiry) -> Express:
    """A request that was let in."""
    inquiries = [inquiry]
    lane = Lane(Settings(bundle="b"), Accounts(create_metrics()), lambda *_: inquiries.pop())
    express = Express(lane, connection, keep_alive=True, top_k=1)
    express.begin()
    return express


@given(st.lists(st.integers(1, 6000), max_size=30))
def test_a_body_in_parts_of_any_size_stays_as_it_is_and_takes_no_more_room(sizes: list[int]) -> None:
    parts = [random.Random(number).randbytes(size) for number, size in enumerate([10, *sizes])]
    express = begun(FakeConnection(), inquiry := KeptInquiry())
    for part in parts:
        express.receive(part)
    assert len(express._parts) <= 2 + 2 * sum(size >= 4096 for size in sizes)
    express.received()
    assert inquiry.data == b"".join(parts)


def test_an_answered_request_keeps_no_image() -> None:
    connection, inquiry = FakeConnection(), KeptInquiry()
    express, kept = begun(connection, inquiry), weakref.ref(inquiry)
    del inquiry
    express.receive(PNG)
    express.received()
    express.set_result("anything")
    assert connection.transport.written.startswith(b"HTTP/1.1 200 ")
    gc.collect()
    assert kept() is None
    assert express.done()


def test_nothing_is_written_to_a_connection_that_closes() -> None:
    connection = FakeConnection()
    express = begun(connection, KeptInquiry())
    express.receive(PNG)
    express.received()
    connection.transport.closing = True
    express.set_result("anything")
    assert (connection.transport.written, express.done(), connection.completed) == (b"", True, 1)

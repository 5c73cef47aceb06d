"""How long the service waits for a client, a client for the service, and both for a forward."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from time import monotonic
from urllib.parse import urlsplit

import httpx
import pytest

from conftest import StartServer, encoded, random_picture
from contract import connect, eventually, metric, predict, read_prediction, read_problem, serving
from networks import ENDLESS, plain, trouble_bundle

PNG = encoded(random_picture(0))


@pytest.fixture(scope="module")
def client(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    bundle = trouble_bundle(tmp_path_factory.mktemp("slow") / "bundle", image_folder, seconds=1)
    with serving(bundle, tmp_path_factory.mktemp("logs"), max_batch=1, body_timeout_ms=300) as connected:
        yield connected


def ask(client: httpx.Client, data: bytes, patience: str) -> httpx.Response:
    headers = {"Content-Type": "image/png", "X-Request-Timeout-Ms": patience}
    return client.post("/v1/predict", content=data, headers=headers)


def test_a_client_that_is_in_a_hurry_is_told_when_its_time_is_over(client: httpx.Client) -> None:
    start = monotonic()
    problem = read_problem(ask(client, plain("white"), "100"), 504, "deadline_passed")
    assert "100 ms" in problem.detail
    assert monotonic() - start < 0.9  # the forward takes longer
    eventually(lambda: predict(client, PNG).status_code == 200)


def test_a_client_whose_time_the_queue_exceeds_is_refused_at_once(client: httpx.Client) -> None:
    read_prediction(predict(client, plain("white")))  # from now on a batch is known to take long
    before = metric(client, "batch_size_count")
    with ThreadPoolExecutor() as threads:
        running = threads.submit(predict, client, plain("white"))
        eventually(lambda: metric(client, "batch_size_count") > before)
        refused = ask(client, PNG, "20")
        running.result()
    assert read_problem(refused, 429, "deadline_unreachable").detail.endswith("try again later")
    assert refused.headers["retry-after"] == "1"


@pytest.mark.parametrize("patience", ["0", "-1", "soon", "1e3", "nan", "9" * 30, "0.0"])
def test_a_patience_that_is_no_time_is_refused(client: httpx.Client, patience: str) -> None:
    assert "X-Request-Timeout-Ms" in read_problem(ask(client, PNG, patience), 422, "invalid_parameter").detail


@pytest.mark.parametrize("fronts", [0, 1])
def test_a_connection_stays_open_between_requests_for_as_long_as_it_is_told(
    start_server: StartServer, bundle_folder: Path, fronts: int
) -> None:
    server = start_server(bundle_folder, keep_alive_ms=400, fronts=fronts)
    with closing(HTTPConnection(urlsplit(server.url).netloc, timeout=10)) as connection:
        connection.connect()
        kept = connection.sock
        for _ in range(2):
            connection.request("POST", "/v1/predict", PNG, {"Content-Type": "image/png"})
            response = connection.getresponse()
            assert (response.status, connection.sock) == (200, kept)
            response.read()
        answered = monotonic()
        assert kept.recv(1) == b""
        assert monotonic() - answered > 0.2


def test_a_body_that_does_not_come_in_time_is_refused(client: httpx.Client) -> None:
    address = urlsplit(str(client.base_url))
    with socket.create_connection((str(address.hostname), int(address.port or 80))) as slow:
        head = f"POST /v1/predict HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\nContent-Length: {len(PNG)}\r\n\r\n"
        slow.sendall(head.encode() + PNG[:-1])
        answer = slow.recv(65536)
        while b"}" not in answer:
            answer += slow.recv(65536)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"body_timeout"' in answer


def test_a_forward_that_hangs_is_noticed_and_ends_the_service(
    start_server: StartServer, image_folder: Path, tmp_path: Path
) -> None:
    bundle = trouble_bundle(tmp_path / "bundle", image_folder, seconds=ENDLESS)
    server = start_server(bundle=bundle, max_batch=1, hang_timeout_ms=1000, drain_delay_ms=0, deadline_ms=600_000)
    with connect(server.url) as client, ThreadPoolExecutor() as threads:
        read_prediction(predict(client, PNG))
        before = metric(client, "batch_size_count")
        hanging = threads.submit(predict, client, plain("white"))
        eventually(lambda: metric(client, "batch_size_count") > before)  # else the next may be answered before it
        behind = threads.submit(predict, client, PNG)
        for answer in (hanging, behind):
            read_problem(answer.result(), 503, "not_ready")
    assert server.process.wait(60) == 1
    log = server.log_file.read_text()
    assert "a forward hangs" in log
    assert "Traceback" not in log

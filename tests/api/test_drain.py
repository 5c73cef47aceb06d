"""From the first signal to the end of the process."""

import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from conftest import Server, StartServer, encoded, random_picture
from contract import connect, eventually, metric, predict, predict_batch, read_prediction, read_problem
from networks import ENDLESS, plain, trouble_bundle

PNG = encoded(random_picture(0))
TIMEOUT_S = 120


@pytest.fixture(scope="module")
def slow(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trouble_bundle(tmp_path_factory.mktemp("slow") / "bundle", image_folder, seconds=1.5)


@pytest.fixture(scope="module")
def endless(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trouble_bundle(tmp_path_factory.mktemp("endless") / "bundle", image_folder, seconds=ENDLESS)


@contextmanager
def loaded(server: Server) -> Iterator[tuple[httpx.Client, list[Future[httpx.Response]]]]:
    """A client, and requests of which one is in the forward and two wait."""
    with connect(server.url) as client, ThreadPoolExecutor() as threads:
        accepted = [threads.submit(predict, client, plain("white"))]
        eventually(lambda: metric(client, "batch_size_count") == 1)
        accepted += [threads.submit(predict, client, data) for data in (plain("white"), PNG)]
        eventually(lambda: metric(client, "queue_depth") == 2)
        yield client, accepted


def terminate(server: Server, client: httpx.Client, sent: signal.Signals) -> None:
    """Send the first signal and wait until readiness tells of it."""
    server.process.send_signal(sent)
    eventually(lambda: client.get("/readyz").status_code == 503)


@pytest.mark.parametrize("fronts", [0, 1])
def test_draining_refuses_new_work_and_answers_what_was_accepted(
    start_server: StartServer, slow: Path, fronts: int
) -> None:
    server = start_server(fronts=fronts, bundle=slow, max_batch=1, deadline_ms=600_000, drain_delay_ms=1500)
    with loaded(server) as (client, accepted):
        terminate(server, client, signal.SIGTERM)
        for refused in (client.get("/readyz"), predict(client, PNG), predict_batch(client, PNG)):
            read_problem(refused, 503, "draining")
            assert refused.headers["retry-after"] == "5"
        assert client.get("/healthz").status_code == 200
        for response in accepted:
            read_prediction(response.result())
    assert server.process.wait(TIMEOUT_S) == 0
    assert "Traceback" not in server.log_file.read_text()


@pytest.mark.parametrize("fronts", [0, 1])
def test_work_that_outlasts_the_drain_is_told_and_abandoned(
    start_server: StartServer, endless: Path, fronts: int
) -> None:
    limits = {"deadline_ms": 600_000, "drain_delay_ms": 0, "drain_timeout_ms": 1000}
    server = start_server(fronts=fronts, bundle=endless, max_batch=1, **limits)
    with loaded(server) as (_, accepted):
        server.process.send_signal(signal.SIGTERM)
        for response in accepted:
            read_problem(response.result(), 503, "draining")
    assert server.process.wait(TIMEOUT_S) == 1
    assert "Traceback" not in server.log_file.read_text()


@pytest.mark.parametrize("fronts", [0, 1])
def test_a_second_signal_ends_the_drain_at_once(start_server: StartServer, endless: Path, fronts: int) -> None:
    limits = {"deadline_ms": 600_000, "drain_delay_ms": 600_000, "drain_timeout_ms": 600_000}
    server = start_server(fronts=fronts, bundle=endless, max_batch=1, **limits)
    with loaded(server) as (client, accepted):
        terminate(server, client, signal.SIGINT)
        server.process.send_signal(signal.SIGINT)
        for response in accepted:
            read_problem(response.result(), 503, "draining")
    assert server.process.wait(TIMEOUT_S) == 1
    assert "Traceback" not in server.log_file.read_text()

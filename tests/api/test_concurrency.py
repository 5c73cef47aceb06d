"""Many clients at once, and clients that leave."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import httpx
import numpy as np
import pytest

from conftest import encoded, random_picture
from contract import connect, eventually, metric, predict, read_prediction, scrape, serving, value
from networks import plain, trouble_bundle
from oodgate.api.schemas import Prediction
from oodgate.bundle import load_bundle
from oodgate.gate import Gate, Verdict

CLIENTS = 64
PNG = encoded(random_picture(0))


@pytest.fixture(scope="module")
def bundle(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trouble_bundle(tmp_path_factory.mktemp("trouble") / "bundle", image_folder, seconds=2)


@pytest.fixture(scope="module")
def client(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with serving(bundle, tmp_path_factory.mktemp("logs"), deadline_ms=600_000) as connected:
        yield connected


def test_each_of_many_clients_gets_its_own_result_and_they_share_forwards(client: httpx.Client, bundle: Path) -> None:
    pictures = [random_picture(seed) for seed in range(CLIENTS)]
    together = Barrier(CLIENTS)

    def ask(data: bytes) -> list[Prediction]:
        with connect(str(client.base_url)) as own:
            together.wait()
            return [read_prediction(predict(own, data)) for _ in range(3)]

    before = scrape(client)
    with ThreadPoolExecutor(CLIENTS + 1) as threads:
        blocking = threads.submit(predict, client, plain("white"))
        eventually(lambda: metric(client, "batch_size_count") > value(before, "batch_size_count"))
        answers = list(threads.map(ask, map(encoded, pictures)))
    read_prediction(blocking.result())

    gate = Gate(load_bundle(bundle), "cpu")
    for picture, own in zip(pictures, answers, strict=True):
        (verdict,) = gate.judge([np.asarray(picture)])
        assert isinstance(verdict, Verdict)
        for answer in own:
            assert answer.ood.score == pytest.approx(verdict.score, abs=1e-5)
            assert answer.ood.terms == pytest.approx(verdict.terms, abs=1e-5)
            probabilities = {entry.index: entry.probability for entry in answer.predictions}
            assert probabilities == pytest.approx(dict(enumerate(verdict.probabilities.tolist())), abs=1e-5)

    after = scrape(client)
    forwards = value(after, "batch_size_count") - value(before, "batch_size_count")
    alone = value(after, "batch_size_bucket", le="1.0") - value(before, "batch_size_bucket", le="1.0")
    assert value(after, "batch_size_sum") - value(before, "batch_size_sum") == 3 * CLIENTS + 1
    assert alone < forwards < 3 * CLIENTS + 1
    assert value(after, "batch_size_bucket", le="16.0") == value(after, "batch_size_count")  # the default max_batch


@pytest.mark.parametrize(
    ("path", "content_type", "images"),
    [("/v1/predict", "image/png", 1), ("/v1/predict/batch", "multipart/form-data; boundary=x", 2)],
)
def test_images_of_a_client_that_left_are_never_forwarded(
    client: httpx.Client, path: str, content_type: str, images: int
) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n' + PNG + b"\r\n"
    body = PNG if images == 1 else images * part + b"--x--\r\n"
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    left = {"route": path, "method": "POST", "status": "499"}
    before = scrape(client)

    with ThreadPoolExecutor() as threads:
        blocking = threads.submit(predict, client, plain("white"))
        eventually(lambda: metric(client, "batch_size_count") > value(before, "batch_size_count"))
        with socket.create_connection((client.base_url.host, client.base_url.port or 80)) as leaving:
            leaving.sendall(head.encode() + body)
            eventually(lambda: metric(client, "queue_depth") == images)
        eventually(lambda: metric(client, "http_requests_total", **left) == 1)
        read_prediction(blocking.result())
    read_prediction(predict(client, PNG))

    after = scrape(client)
    assert value(after, "batch_size_sum") - value(before, "batch_size_sum") == 2  # the slow one and the last one
    assert (
        value(after, "refused_total", reason="client_left") - value(before, "refused_total", reason="client_left") == 1
    )


def test_a_client_that_leaves_while_it_sends_is_counted(client: httpx.Client) -> None:
    before = scrape(client)
    with socket.create_connection((client.base_url.host, client.base_url.port or 80)) as leaving:
        leaving.sendall(
            b"POST /v1/predict HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\nContent-Length: 99\r\n\r\nabc"
        )
    reason = {"reason": "client_left"}
    eventually(lambda: metric(client, "refused_total", **reason) == value(before, "refused_total", **reason) + 1)
    assert metric(client, "in_flight") == 1  # this scrape

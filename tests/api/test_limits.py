"""Limits at their edges: bytes, pixels, places in the queue, time."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from conftest import encoded, random_picture
from contract import (
    check_problem,
    eventually,
    exchange,
    metric,
    predict,
    predict_batch,
    read_batch,
    read_prediction,
    read_problem,
    scrape,
    serving,
    value,
)
from networks import plain, trouble_bundle
from oodgate.api.schemas import Prediction

MAX_BYTES, MAX_PIXELS = 40_000, 10_000
PNG = encoded(random_picture(0))


@pytest.fixture(scope="module")
def client(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    limits = {"max_bytes": MAX_BYTES, "max_pixels": MAX_PIXELS}
    with serving(bundle_folder, tmp_path_factory.mktemp("logs"), **limits) as connected:
        yield connected


@pytest.fixture(scope="module")
def narrow(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A service with one place in the queue and one in the forward."""
    folder = tmp_path_factory.mktemp("narrow")
    bundle = trouble_bundle(folder / "bundle", image_folder, seconds=2)
    with serving(bundle, folder, max_queue=1, max_batch=1, deadline_ms=600_000) as connected:
        yield connected


def padded(size: int) -> bytes:
    """A PNG file of this many bytes: what follows the image's end plays no part."""
    return PNG + bytes(size - len(PNG))


def chunks(data: bytes) -> Iterator[bytes]:
    """The data in pieces, which httpx sends without announcing a length."""
    for start in range(0, len(data), 1000):
        yield data[start : start + 1000]


def post_chunked(client: httpx.Client, data: bytes) -> httpx.Response:
    return client.post("/v1/predict", content=chunks(data), headers={"Content-Type": "image/png"})


def post_multipart(client: httpx.Client, data: bytes) -> httpx.Response:
    return client.post("/v1/predict", files={"file": ("a.png", data, "image/png")})


def test_bytes_are_taken_up_to_the_limit_and_refused_beyond(client: httpx.Client) -> None:
    for post in (predict, post_chunked, post_multipart):
        read_prediction(post(client, padded(MAX_BYTES)))
        problem = read_problem(post(client, padded(MAX_BYTES + 1)), 413, "too_many_bytes")
        assert str(MAX_BYTES) in problem.detail


def test_a_multipart_body_far_beyond_the_limit_is_refused(client: httpx.Client) -> None:
    read_problem(post_multipart(client, padded(MAX_BYTES + 2**20)), 413, "too_many_bytes")


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/v1/predict", "image/png"),
        ("/v1/predict", "multipart/form-data; boundary=x"),
        ("/v1/predict/batch", "multipart/form-data; boundary=x"),
    ],
)
def test_an_announced_length_beyond_the_limit_is_refused_before_the_body(
    client: httpx.Client, path: str, content_type: str
) -> None:
    headers = ["Host: a", "Connection: close", f"Content-Type: {content_type}", f"Content-Length: {10**12}"]
    answer = exchange(client, "\r\n".join([f"POST {path} HTTP/1.1", *headers, "", ""]).encode())
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"code":"too_many_bytes"' in answer
    assert b"x-request-id: " in answer


def test_pixels_are_taken_up_to_the_limit_and_refused_beyond(client: httpx.Client) -> None:
    read_prediction(predict(client, encoded(random_picture(0, 100, 100))))
    problem = read_problem(predict(client, encoded(random_picture(0, 101, 100))), 413, "too_many_pixels")
    assert "101 x 100" in problem.detail


def test_pixels_are_counted_by_the_header_before_they_are_decoded(client: httpx.Client) -> None:
    header_alone = encoded(random_picture(0, 200, 200))[:100]
    read_problem(predict(client, header_alone), 413, "too_many_pixels")


def test_a_full_queue_refuses_at_once_and_answers_whom_it_took(narrow: httpx.Client) -> None:
    before = scrape(narrow)
    with ThreadPoolExecutor() as threads:
        running = threads.submit(predict, narrow, plain("white"))
        eventually(lambda: metric(narrow, "batch_size_count") == value(before, "batch_size_count") + 1)
        waiting = threads.submit(predict, narrow, PNG)
        eventually(lambda: metric(narrow, "queue_depth") == 1)

        refused = predict(narrow, PNG)
        read_problem(refused, 429, "queue_full")
        assert refused.headers["retry-after"] == "1"
        for result in read_batch(predict_batch(narrow, PNG, PNG)):
            check_problem(result, 429, "queue_full")

        read_prediction(running.result())
        read_prediction(waiting.result())
    read_prediction(predict(narrow, PNG))
    after = scrape(narrow)
    assert value(after, "refused_total", reason="queue_full") == 3
    # What was refused never reached a forward.
    assert value(after, "batch_size_sum") - value(before, "batch_size_sum") == 3


def test_a_batch_larger_than_the_queue_is_answered_as_far_as_there_are_places(narrow: httpx.Client) -> None:
    first, *others = read_batch(predict_batch(narrow, *[PNG] * 8))
    assert isinstance(first, Prediction)
    check_problem(others[-1], 429, "queue_full")


def test_a_passed_deadline_is_told_and_what_waited_is_never_forwarded(image_folder: Path, tmp_path: Path) -> None:
    bundle = trouble_bundle(tmp_path / "bundle", image_folder, seconds=2)
    with serving(bundle, tmp_path, max_batch=1, deadline_ms=500) as client, ThreadPoolExecutor() as threads:
        running = threads.submit(predict, client, plain("white"))
        eventually(lambda: metric(client, "batch_size_count") == 1)
        waiting = threads.submit(predict, client, PNG)
        for response in (running.result(), waiting.result()):
            assert "500 ms" in read_problem(response, 504, "deadline_passed").detail

        assert metric(client, "queue_depth") == 0  # its place is free while the slow one still runs
        eventually(lambda: predict(client, PNG).status_code == 200)
        assert metric(client, "batch_size_sum") == 2  # the slow one and the last one
        assert metric(client, "refused_total", reason="deadline_passed") >= 2

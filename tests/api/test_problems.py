"""Requests that cannot be answered, and the problem document that each of them gets."""

import gzip
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from conftest import encoded, random_picture
from contract import check_problem, predict, predict_batch, read_batch, read_prediction, read_problem, serving
from networks import plain, trouble_bundle
from oodgate.api.schemas import Prediction

PNG, JPEG = encoded(random_picture(0, 64, 64)), encoded(random_picture(0, 64, 64), "JPEG")
PART = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'


@pytest.fixture(scope="module")
def client(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("trouble")
    bundle = trouble_bundle(folder / "bundle", image_folder)
    with serving(bundle, folder, image_formats="png,jpeg") as connected:
        yield connected


@pytest.mark.parametrize(
    ("data", "content_type"),
    [
        (b"not an image", "image/png"),
        (b"", "image/png"),
        (PNG[:40], "image/png"),
        (PNG[: len(PNG) // 2], "image/png"),
        (JPEG[: len(JPEG) // 2], "image/jpeg"),
        (encoded(random_picture(0), "GIF"), "image/png"),
    ],
    ids=["text", "empty", "header alone", "half a PNG", "half a JPEG", "format that is not allowed"],
)
def test_bytes_that_are_no_whole_image_are_a_bad_request(client: httpx.Client, data: bytes, content_type: str) -> None:
    read_problem(predict(client, data, content_type), 400, "invalid_image")


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", PART + PNG + b"\r\n--x--\r\n"),
        ("multipart/form-data; boundary=y", PART + PNG + b"\r\n--x--\r\n"),
        ("multipart/form-data; boundary=x", b"garbage"),
        ("multipart/form-data; boundary=x", b""),
        ("multipart/form-data; boundary=x", PART + PNG),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--\r\n"),
        ("multipart/form-data; boundary=x", PART.replace(b'"file"', b'"image"') + PNG + b"\r\n--x--\r\n"),
        ("multipart/form-data; boundary=x", PART.replace(b'; filename="a.png"', b"") + PNG + b"\r\n--x--\r\n"),
    ],
    ids=["no boundary", "other boundary", "garbage", "empty", "cut short", "no name", "other name", "no file"],
)
def test_a_multipart_body_without_one_readable_file_is_a_bad_request(
    client: httpx.Client, content_type: str, body: bytes
) -> None:
    read_problem(predict(client, body, content_type), 400, "malformed_multipart")


@pytest.mark.parametrize("count", [2, 3])
def test_one_prediction_takes_one_file(client: httpx.Client, count: int) -> None:
    parts = [("file", ("a.png", PNG, "image/png"))] * count
    read_problem(client.post("/v1/predict", files=parts), 413, "too_many_files")


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/predict/other", "/v3/predict", "/%2e%2e/etc/passwd", "/a%0Ab"])
def test_a_path_without_endpoint_is_not_found(client: httpx.Client, path: str) -> None:
    read_problem(client.get(path), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/predict", "POST"),
        ("PUT", "/v1/predict", "POST"),
        ("DELETE", "/v1/predict/batch", "POST"),
        ("POST", "/v1/model", "GET"),
        ("POST", "/healthz", "GET"),
        ("PROPFIND", "/metrics", "GET"),
    ],
)
def test_another_method_is_answered_with_the_allowed_one(
    client: httpx.Client, method: str, path: str, allowed: str
) -> None:
    response = client.request(method, path)
    read_problem(response, 405, "method_not_allowed")
    assert response.headers["allow"] == allowed


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/json", "application/octet-stream", "image/gif", "image/svg+xml", "image", ""],
)
def test_a_body_that_announces_no_allowed_image_is_an_unsupported_type(client: httpx.Client, content_type: str) -> None:
    assert "image/png" in read_problem(predict(client, PNG, content_type), 415, "not_an_image_type").detail


def test_a_body_without_content_type_is_an_unsupported_type(client: httpx.Client) -> None:
    read_problem(client.post("/v1/predict", content=PNG), 415, "not_an_image_type")


def test_a_part_that_announces_no_image_is_an_unsupported_type(client: httpx.Client) -> None:
    response = client.post("/v1/predict", files={"file": ("a.txt", PNG, "text/plain")})
    read_problem(response, 415, "not_an_image_type")


@pytest.mark.parametrize("top_k", ["0", "-1", "1001", "abc", "1.5", ""])
def test_top_k_out_of_range_is_an_invalid_parameter(client: httpx.Client, top_k: str) -> None:
    assert "'top_k'" in read_problem(predict(client, PNG, top_k=top_k), 422, "invalid_parameter").detail


def test_a_network_that_fails_is_an_internal_error_and_the_next_image_is_answered(client: httpx.Client) -> None:
    problem = read_problem(predict(client, plain("red")), 500, "inference_failed")
    assert "red" not in problem.detail  # what the network said is the operator's
    read_prediction(predict(client, plain("black")))


def test_an_answer_that_is_not_a_number_fails_alone(client: httpx.Client) -> None:
    read_problem(predict(client, plain("blue")), 500, "inference_failed")
    first, bad, last = read_batch(predict_batch(client, plain("black"), plain("blue"), plain("black")))
    check_problem(bad, 500, "inference_failed")
    assert isinstance(first, Prediction)
    assert isinstance(last, Prediction)
    assert first.ood == last.ood


@pytest.mark.parametrize("path", ["/v1/predict", "/v1/predict?other=1", "/v1/predict/batch"])
def test_a_compressed_body_is_an_unsupported_type(client: httpx.Client, path: str) -> None:
    headers = {"Content-Encoding": "gzip", "Content-Type": "image/png"}
    read_problem(client.post(path, content=gzip.compress(PNG), headers=headers), 415, "compressed_body")


def test_a_body_that_says_it_is_sent_as_it_is_is_read(client: httpx.Client) -> None:
    headers = {"Content-Encoding": "identity", "Content-Type": "image/png"}
    read_prediction(client.post("/v1/predict", content=PNG, headers=headers))

"""POST /v1/predict/batch: order, and files that fail alone."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from conftest import encoded, random_picture
from contract import check_problem, predict_batch, read_batch, read_problem, serving
from oodgate.api.schemas import Prediction
from oodgate.bundle import load_bundle
from oodgate.gate import Gate, Verdict

MAX_BYTES = 20_000


@pytest.fixture(scope="module")
def client(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    limits = {"max_files": 4, "max_bytes": MAX_BYTES, "max_request_bytes": 3 * MAX_BYTES}
    with serving(bundle_folder, tmp_path_factory.mktemp("logs"), **limits) as connected:
        yield connected


def picture(seed: int) -> bytes:
    return encoded(random_picture(seed))


def test_results_are_the_offline_ones_in_the_order_of_the_files(client: httpx.Client, bundle_folder: Path) -> None:
    gate = Gate(load_bundle(bundle_folder), "cpu")
    verdicts = gate.judge([np.asarray(random_picture(seed)) for seed in range(4)])
    results = read_batch(predict_batch(client, *map(picture, range(4))))
    for result, verdict in zip(results, verdicts, strict=True):
        assert isinstance(result, Prediction)
        assert isinstance(verdict, Verdict)
        assert result.ood.score == pytest.approx(verdict.score, abs=1e-5)
        assert result.predictions[0].probability == pytest.approx(verdict.probabilities.max(), abs=1e-5)


@pytest.mark.parametrize(
    ("part", "status", "code"),
    [
        (("bad", b"not an image", "image/png"), 400, "invalid_image"),
        (("cut", picture(1)[:100], "image/png"), 400, "invalid_image"),
        (("empty", b"", "image/png"), 400, "invalid_image"),
        (("large", picture(1) + bytes(MAX_BYTES), "image/png"), 413, "too_many_bytes"),
        (("text", picture(1), "text/plain"), 415, "not_an_image_type"),
    ],
)
def test_a_bad_file_fails_alone_with_a_problem_in_its_place(
    client: httpx.Client, part: tuple[str, bytes, str], status: int, code: str
) -> None:
    good = ("good.png", picture(0), "image/png")
    response = client.post("/v1/predict/batch", files=[("files", good), ("files", part), ("files", good)])
    first, bad, last = read_batch(response)
    check_problem(bad, status, code)
    assert isinstance(first, Prediction)
    assert isinstance(last, Prediction)
    assert first.predictions == last.predictions


@pytest.mark.parametrize("count", [5, 6, 9])
def test_too_many_files_are_refused_together(client: httpx.Client, count: int) -> None:
    problem = read_problem(predict_batch(client, *map(picture, range(count))), 413, "too_many_files")
    assert "4" in problem.detail


def test_too_large_a_request_is_refused_together(client: httpx.Client) -> None:
    problem = read_problem(predict_batch(client, *([bytes(MAX_BYTES)] * 3)), 413, "too_many_bytes")
    assert str(3 * MAX_BYTES) in problem.detail


@pytest.mark.parametrize("names", [("file",), ("files", "file"), ("files[]",)])
def test_parts_of_another_name_are_refused_together(client: httpx.Client, names: tuple[str, ...]) -> None:
    parts = [(name, ("a.png", picture(0), "image/png")) for name in names]
    problem = read_problem(client.post("/v1/predict/batch", files=parts), 400, "malformed_multipart")
    assert "'files'" in problem.detail


def test_a_part_that_is_no_file_is_refused(client: httpx.Client) -> None:
    parts = {"files": (None, b"text")}
    read_problem(client.post("/v1/predict/batch", files=parts), 400, "malformed_multipart")


def test_a_body_that_is_not_multipart_is_refused(client: httpx.Client) -> None:
    response = client.post("/v1/predict/batch", content=picture(0), headers={"Content-Type": "image/png"})
    assert "multipart/form-data" in read_problem(response, 415, "not_an_image_type").detail


def test_top_k_holds_for_every_file(client: httpx.Client) -> None:
    results = read_batch(predict_batch(client, picture(0), picture(1), top_k=2))
    assert [len(result.predictions) for result in results if isinstance(result, Prediction)] == [2, 2]


def test_top_k_out_of_range_is_refused(client: httpx.Client) -> None:
    assert "top_k" in read_problem(predict_batch(client, picture(0), top_k=0), 422, "invalid_parameter").detail

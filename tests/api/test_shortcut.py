"""Which requests go past the web framework's layers: the plain ones, which are answered as the others are."""

from pathlib import Path

import pytest

from conftest import encoded, random_picture
from contract import predict, read_prediction, serving
from oodgate.api.plain import plain_top_k

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
    scope = {"type": "http", "method": method, "path": path, "query_string": query}
    assert plain_top_k(scope) == expected


def test_both_ways_give_the_same_answer(bundle_folder: Path, tmp_path: Path) -> None:
    with serving(bundle_folder, tmp_path) as client:
        short = read_prediction(predict(client, PNG, top_k=2))
        long = read_prediction(predict(client, PNG, top_k=2, other=1))
    assert short.predictions == long.predictions
    assert short.ood == long.ood

"""The request id, which every answer carries."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from conftest import StartServer, encoded, random_picture
from contract import connect, eventually, exchange, predict_batch, read_batch, serving

PNG = encoded(random_picture(0))
GENERATED = re.compile("[0-9a-f]{32}")


@pytest.fixture(scope="module")
def client(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with serving(bundle_folder, tmp_path_factory.mktemp("logs")) as connected:
        yield connected


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/predict", 200),
        ("POST", "/v1/predict?top_k=0", 422),
        ("POST", "/v1/predict/batch", 415),
        ("GET", "/v1/predict", 405),
        ("GET", "/v1/model", 200),
        ("GET", "/healthz", 200),
        ("GET", "/readyz", 200),
        ("GET", "/metrics", 200),
        ("GET", "/docs", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/unknown", 404),
        ("GET", "/v1/models/unknown", 404),
        ("GET", "/v2", 200),
        ("GET", "/v2/unknown", 404),
        ("POST", "/v2/models/tiny/infer", 400),
    ],
)
def test_every_answer_carries_an_id_of_its_own(client: httpx.Client, method: str, path: str, status: int) -> None:
    answers = [client.request(method, path, content=PNG, headers={"Content-Type": "image/png"}) for _ in range(2)]
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert [answer.status_code for answer in answers] == [status, status]
    assert all(GENERATED.fullmatch(request_id) for request_id in ids)
    assert ids[0] != ids[1]


@pytest.mark.parametrize("offered", ["a", "trace-1:span_2.3", "0" * 128])
@pytest.mark.parametrize("path", ["/healthz", "/unknown"])
def test_a_plain_id_of_the_client_comes_back(client: httpx.Client, path: str, offered: str) -> None:
    assert client.get(path, headers={"X-Request-Id": offered}).headers["x-request-id"] == offered


@pytest.mark.parametrize(
    "offered",
    [b"", b"0" * 129, b"two words", b"a\tb", b"a%0Ab", b"a\\nb", b"a,b", b'"quoted"', b"\xc3\xbc"],
)
def test_any_other_id_is_replaced(client: httpx.Client, offered: bytes) -> None:
    head = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Request-Id: " + offered + b"\r\n\r\n"
    answer = exchange(client, head).decode()
    assert answer.startswith("HTTP/1.1 200 ")
    (request_id,) = re.findall(r"x-request-id: (.*)\r\n", answer)
    assert GENERATED.fullmatch(request_id)


def test_an_id_of_several_lines_never_reaches_the_service(client: httpx.Client) -> None:
    head = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Request-Id: a\r\n b\r\n\r\n"
    assert exchange(client, head).startswith(b"HTTP/1.1 400 ")


def test_the_id_of_the_client_names_its_predictions(client: httpx.Client) -> None:
    client.headers["X-Request-Id"] = "mine"
    raw = client.post("/v1/predict", content=PNG, headers={"Content-Type": "image/png"})
    batch = read_batch(predict_batch(client, PNG, b"bad"))
    del client.headers["X-Request-Id"]
    assert raw.json()["id"] == "mine"
    assert batch[0].model_dump()["id"] == "mine/0"
    assert batch[1].model_dump()["request_id"] == "mine/1"


def test_a_request_behind_another_is_logged_without_the_facts_of_that(start_server: StartServer) -> None:
    server = start_server(max_batch=1)
    parts = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + PNG + b"\r\n--b--\r\n"
    first = b"POST /v1/predict HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    with connect(server.url) as client:
        answer = exchange(
            client,
            first
            + b"Content-Length: %d\r\nX-Request-Id: first\r\n\r\n" % len(parts)
            + parts
            + b"GET /v1/models HTTP/1.1\r\nHost: a\r\nX-Request-Id: second\r\nConnection: close\r\n\r\n",
        )
    assert answer.count(b"HTTP/1.1 200 ") == 2
    eventually(lambda: '"second"' in server.log_file.read_text())
    records = [json.loads(line) for line in server.log_file.read_text().splitlines() if line.startswith("{")]
    logged = {record["request_id"]: record for record in records if record["event"] == "request"}
    assert "decision" in logged["first"]
    assert "decision" not in logged["second"]

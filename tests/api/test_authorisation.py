"""Keys: who may ask for what, and what is told to those who may not."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.types import Scope

from conftest import StartServer, encoded, random_picture
from contract import connect, eventually, exchange, predict, read_prediction, read_problem, serving
from oodgate.api.endpoints import PAGES, ROUTERS, Endpoints, kind_of
from oodgate.api.key_ring import KeyRing
from oodgate.api.origin import client_of
from oodgate.api_keys import SCOPES, line_of
from oodgate.errors import SetupError

PNG = encoded(random_picture(0))
KEYS = {name: f"oodgate_secret-of-{name}" for name in ("predict", "metrics", "admin")}
OPEN = ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready")
CLOSED = [
    ("POST", "/v1/predict", "predict"),
    ("POST", "/v1/predict?top_k=0", "predict"),
    ("POST", "/v1/predict/batch", "predict"),
    ("POST", "/v1/models/tiny/predict", "predict"),
    ("POST", "/v1/models/tiny/predict/batch", "predict"),
    ("GET", "/v1/model", "predict"),
    ("GET", "/v1/models", "predict"),
    ("GET", "/v1/models/tiny", "predict"),
    ("GET", "/v2", "predict"),
    ("GET", "/v2/models/tiny", "predict"),
    ("GET", "/v2/models/tiny/ready", "predict"),
    ("GET", "/v2/models/tiny/versions/1", "predict"),
    ("GET", "/v2/models/tiny/versions/1/ready", "predict"),
    ("POST", "/v2/models/tiny/infer", "predict"),
    ("POST", "/v2/models/tiny/versions/1/infer", "predict"),
    ("GET", "/metrics", "metrics"),
    ("GET", "/metrics%0A", "metrics"),
    ("POST", "/v1/models/tiny/load", "admin"),
    ("POST", "/v1/models/tiny/unload", "admin"),
    ("POST", "/v1/models/tiny/unload%0A", "admin"),
    ("POST", "/v1/models/tiny/drift/reset", "admin"),
]


def write_keys(file: Path, *keys: tuple[str, str]) -> None:
    """Put a file of keys, each with its only scope, in the place of another."""
    new = file.with_suffix(".new")
    new.write_text("".join(f"{line_of(f'the-{scope}', [scope], key)}\n" for scope, key in keys))
    new.replace(file)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    file = tmp_path / "keys.txt"
    write_keys(file, *KEYS.items())
    return file


@pytest.fixture(scope="module")
def client(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("keys")
    write_keys(folder / "keys.txt", *KEYS.items())
    with serving(bundle_folder, folder, api_keys=folder / "keys.txt", drift_client_rate=1) as connected:
        yield connected


def refusal(response: httpx.Response, path: str, status: int, code: str) -> None:
    """Hold a refusal to its form, which below /v2 is the protocol's."""
    if path.startswith("/v2"):
        assert (response.status_code, set(response.json())) == (status, {"error"})
    else:
        read_problem(response, status, code)
    assert response.headers.get("www-authenticate") == ("Bearer" if status == 401 else None)
    assert "x-request-id" in response.headers


@pytest.mark.parametrize(("method", "path", "scope"), CLOSED)
def test_an_endpoint_opens_to_the_keys_of_its_scope_alone(
    client: httpx.Client, method: str, path: str, scope: str
) -> None:
    refusal(client.request(method, path), path, 401, "unauthorized")
    refusal(client.request(method, path, headers=bearer("oodgate_guessed")), path, 401, "unauthorized")
    for other in set(KEYS) - {scope}:
        refusal(client.request(method, path, headers=bearer(KEYS[other])), path, 403, "forbidden")
    for headers in (bearer(KEYS[scope]), {"X-Api-Key": KEYS[scope]}):
        answer = client.request(method, path, headers=headers)
        assert answer.status_code != 401
        assert '"code":"forbidden"' not in answer.text


@pytest.mark.parametrize("path", [*OPEN, *PAGES])
def test_probes_and_pages_need_no_key(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 200


def test_every_documented_operation_is_known_by_its_kind(client: httpx.Client) -> None:
    endpoints = Endpoints()
    for path, operations in client.get("/openapi.json").json()["paths"].items():
        for operation in operations.values():
            kind = endpoints.kind(path.replace("{name}", "a").replace("{version}", "b"))
            assert kind == kind_of(operation["operationId"]) != "page"
            needs = [{"bearer": [kind]}, {"api_key": [kind]}] if kind in SCOPES else None
            assert operation.get("security") == needs
            assert ({"401", "403"} <= set(operation["responses"])) is (kind in SCOPES)
    assert {kind_of(route.operation_id) for router in ROUTERS for route in router.routes} == {*SCOPES, "probe"}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Bearer",
        "Basic {key}",
        "{key}",
        "Bearer {key}x",
        "Bearer x{key}",
        "Bearer {key} {key}",
        "Bearerx{key}",
    ],
)
def test_nothing_but_the_whole_key_opens(client: httpx.Client, value: str) -> None:
    read_problem(
        client.get("/metrics", headers={"Authorization": value.format(key=KEYS["metrics"])}), 401, "unauthorized"
    )


def test_the_scheme_may_be_in_either_case_and_other_credentials_do_not_hide_the_key(client: httpx.Client) -> None:
    assert client.get("/metrics", headers={"Authorization": f"bEARER  {KEYS['metrics']}"}).status_code == 200
    both = {"Authorization": "Basic YTpi", "X-Api-Key": KEYS["metrics"]}
    assert client.get("/metrics", headers=both).status_code == 200


def test_a_key_is_not_asked_for_where_there_is_nothing(client: httpx.Client) -> None:
    read_problem(client.get("/unknown"), 404, "not_found")


def test_a_prediction_with_a_key_is_whole(client: httpx.Client) -> None:
    client.headers.update(bearer(KEYS["predict"]))
    try:
        read_prediction(predict(client, PNG))
        read_prediction(predict(client, PNG, model="tiny"))
    finally:
        del client.headers["Authorization"]


def test_a_refused_upload_leaves_the_connection_in_order(client: httpx.Client) -> None:
    head = b"POST /v1/predict HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\nContent-Length: 300000\r\n\r\n"
    last = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    answers = exchange(client, head + b"a" * 300_000 + last)
    assert answers.startswith(b"HTTP/1.1 401 ")
    assert answers.count(b"HTTP/1.1 ") == 2
    assert b"HTTP/1.1 200 " in answers


def test_a_key_counts_within_seconds_of_the_change_of_the_file_and_no_longer(
    start_server: StartServer, keys_file: Path
) -> None:
    server = start_server(api_keys=keys_file, log_format="json")
    with connect(server.url) as client:
        assert client.get("/metrics", headers=bearer(KEYS["metrics"])).status_code == 200
        write_keys(keys_file, ("metrics", "oodgate_the-next"))
        eventually(lambda: client.get("/metrics", headers=bearer("oodgate_the-next")).status_code == 200)
        read_problem(client.get("/metrics", headers=bearer(KEYS["metrics"])), 401, "unauthorized")
        for damage in (b"", b"\xff\xfe", b"oodgate_the-next\n"):
            before = server.log_file.read_text().count("the keys stay as they were")
            keys_file.write_bytes(damage)
            eventually(lambda: server.log_file.read_text().count("the keys stay as they were") > before)  # noqa: B023
            assert client.get("/metrics", headers=bearer("oodgate_the-next")).status_code == 200
        keys_file.unlink()
        eventually(lambda: "cannot be read" in server.log_file.read_text())
        assert client.get("/metrics", headers=bearer("oodgate_the-next")).status_code == 200
        write_keys(keys_file, *KEYS.items())
        eventually(lambda: client.get("/metrics", headers=bearer(KEYS["metrics"])).status_code == 200)
    assert "oodgate_" not in server.log_file.read_text()


def test_the_service_does_not_start_on_a_file_that_is_not_whole(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("nonsense")
    with pytest.raises(SetupError, match="line 1"):
        KeyRing(tmp_path / "keys")


def test_a_file_is_read_again_only_when_it_has_changed(keys_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ring = KeyRing(keys_file)
    reads: list[Path] = []
    monkeypatch.setattr("oodgate.api.key_ring.read_keys", lambda file: reads.append(file) or {})
    ring.refresh()
    assert reads == []
    os.utime(keys_file, ns=(1, 1))
    ring.refresh()
    ring.refresh()
    assert reads == [keys_file]


def test_a_client_is_its_key_and_cannot_write_itself_another_name() -> None:
    def request(key: str, client_id: bytes) -> Scope:
        headers = [(b"x-client-id", client_id)]
        return {"type": "http", "headers": headers, "state": {"client_key": key}, "client": ("10.0.0.1", 1)}

    assert client_of(request("a", b"one")) == client_of(request("a", b"two"))
    assert client_of(request("a", b"one")) != client_of(request("b", b"one"))
    assert client_of(request("", b"a")) != client_of(request("a", b"a"))
    assert client_of(request("", b"one")) != client_of(request("", b"two"))


def test_no_key_is_in_logs_metrics_or_problems(start_server: StartServer, keys_file: Path) -> None:
    secrets = [*KEYS.values(), "oodgate_guessed", "name-of-a-file", "in-the-query", "in-a-cookie"]
    server = start_server(api_keys=keys_file, log_format="json", log_level="debug")
    answers = []
    with connect(server.url) as client:
        for key in (*KEYS.values(), "oodgate_guessed"):
            headers = [bearer(key), {"X-Api-Key": key}, {"Authorization": f"Basic {key}"}]
            for given in headers:
                given = {**given, "Cookie": "a=in-a-cookie", "X-Client-Id": key, "Content-Type": "image/png"}
                answers += [client.post("/v1/predict?key=in-the-query", content=b"bad", headers=given)]
                answers += [client.post("/v1/predict", content=PNG, headers=given)]
                answers += [client.get("/metrics", headers=given), client.get("/v2/models/tiny", headers=given)]
            files = [("files", ("name-of-a-file.png", b"bad", "image/png"))]
            answers += [client.post("/v1/predict/batch", files=files, headers=bearer(key))]
            exchange(client, f"GET / HTTP/1.1\r\nX-Api-Key: {key}\r\n folded\r\n\r\n".encode())
    assert {200, 400, 401, 403} <= {answer.status_code for answer in answers}
    text = server.log_file.read_text() + "".join(f"{answer.headers}{answer.text}" for answer in answers)
    assert "the-predict" in text
    assert [secret for secret in secrets if secret in text] == []


@pytest.mark.parametrize("path", ["/v1/predict", "/v1/models/tiny/drift/reset"])
def test_a_refusal_is_logged_with_the_name_of_the_key(start_server: StartServer, keys_file: Path, path: str) -> None:
    server = start_server(api_keys=keys_file, max_batch=1)
    with connect(server.url) as client:
        assert client.post(path, headers=bearer(KEYS["metrics"])).status_code == 403
        assert client.post(path).status_code == 401
    eventually(lambda: server.log_file.read_text().count('"event":"request"') >= 2)
    records = [json.loads(line) for line in server.log_file.read_text().splitlines() if '"event":"request"' in line]
    named = {record["status"]: record.get("client_key") for record in records if record["path"] == path}
    assert named == {403: "the-metrics", 401: None}

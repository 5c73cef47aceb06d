"""A service with fronts answers as one without, whatever is asked of it and whatever becomes of its processes."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from conftest import Server, StartServer, encoded, random_picture
from contract import (
    connect,
    eventually,
    exchange,
    metric,
    predict,
    read_prediction,
    read_problem,
    scrape,
    serving,
    value,
)
from networks import ENDLESS, plain, trouble_bundle
from oodgate.api_keys import line_of
from oodgate.images.preprocess import Preprocessing
from versions import install, tiny_version

PNG = encoded(random_picture(0))
JPEG = encoded(random_picture(1, 40, 30), "JPEG")
LIMITS = {"max_batch": 4, "max_bytes": 10_000, "max_pixels": 100_000}
FRONTS = 2
TIMEOUT_S = 120
_OF_ONE_REQUEST = ("id", "request_id", "timing_ms")


@pytest.fixture(scope="module")
def alone(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with serving(bundle_folder, tmp_path_factory.mktemp("logs"), **LIMITS) as client:
        yield client


@pytest.fixture(scope="module")
def fronted(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with serving(bundle_folder, tmp_path_factory.mktemp("logs"), fronts=FRONTS, **LIMITS) as client:
        yield client


def lasting(found: Any) -> Any:
    """A document without what is another for every request."""
    if isinstance(found, dict):
        return {name: lasting(part) for name, part in found.items() if name not in _OF_ONE_REQUEST}
    return [lasting(part) for part in found] if isinstance(found, list) else found


def form(name: str, *files: bytes) -> dict[str, Any]:
    return {"files": [(name, ("a.png", data, "image/png")) for data in files]}


def image(data: bytes, content_type: str = "image/png", **headers: str) -> dict[str, Any]:
    return {"content": data, "headers": {"Content-Type": content_type, **headers}}


TENSOR = {"name": "x", "datatype": "UINT8", "shape": [1, 2, 2, 3], "data": list(range(12))}


@pytest.mark.parametrize(
    ("method", "path", "sent"),
    [
        ("POST", "/v1/predict", image(PNG)),
        ("POST", "/v1/predict?top_k=2", image(JPEG, "image/jpeg")),
        ("POST", "/v1/predict?top_k=0", image(PNG)),
        ("POST", "/v1/predict", form("file", PNG)),
        ("POST", "/v1/predict", image(b"")),
        ("POST", "/v1/predict", image(b"no image")),
        ("POST", "/v1/predict", image(PNG[:-20])),
        ("POST", "/v1/predict", image(bytes(20_000))),
        ("POST", "/v1/predict", image(encoded(random_picture(0, 400, 400), "WEBP", quality=1), "image/webp")),
        ("POST", "/v1/predict", image(PNG, "text/plain")),
        ("POST", "/v1/predict", image(PNG, **{"Content-Encoding": "gzip"})),
        ("POST", "/v1/predict", image(PNG, **{"X-Request-Timeout-Ms": "soon"})),
        ("GET", "/v1/predict", {}),
        ("POST", "/v1/predict/batch", form("files", PNG, b"no image", JPEG)),
        ("POST", "/v1/models/tiny/predict", image(PNG)),
        ("POST", "/v1/models/none/predict", image(PNG)),
        ("POST", "/v1/models/tiny/load", {}),
        ("POST", "/v2/models/tiny/infer", {"json": {"inputs": [TENSOR]}}),
        ("GET", "/v2/models/tiny", {}),
        ("GET", "/v1/models", {}),
        ("GET", "/healthz", {}),
        ("GET", "/readyz", {}),
        ("GET", "/openapi.json", {}),
        ("GET", "/nothing", {}),
    ],
)
def test_the_answer_is_that_of_a_service_without(
    alone: httpx.Client, fronted: httpx.Client, method: str, path: str, sent: dict[str, Any]
) -> None:
    expected, found = alone.request(method, path, **sent), fronted.request(method, path, **sent)
    assert found.status_code == expected.status_code
    assert {name: found.headers.get(name) for name in ("content-type", "x-content-type-options", "allow")} == {
        name: expected.headers.get(name) for name in ("content-type", "x-content-type-options", "allow")
    }
    assert lasting(found.json()) == lasting(expected.json())


def test_an_id_of_the_client_comes_back_by_either_way(fronted: httpx.Client) -> None:
    fronted.headers["X-Request-Id"] = "mine-1"
    try:
        for response in (predict(fronted, PNG), predict(fronted, PNG, other=1), fronted.get("/healthz")):
            assert response.headers["x-request-id"] == "mine-1"
    finally:
        del fronted.headers["X-Request-Id"]


def test_metrics_count_every_request_of_every_front_once(start_server: StartServer) -> None:
    server = start_server(fronts=FRONTS, max_batch=4)
    for number in range(20):  # a connection each, so that both fronts have some
        with connect(server.url) as client:
            assert predict(client, PNG if number % 4 else b"no image").status_code in (200, 400)
    with connect(server.url) as client:
        counted = {"route": "/v1/predict", "method": "POST"}
        eventually(lambda: metric(client, "http_requests_total", **counted) == 20)
        samples = scrape(client)
    assert value(samples, "http_requests_total", status="200", **counted) == 15
    assert value(samples, "http_request_duration_seconds_count", route="/v1/predict") == 20
    assert value(samples, "refused_total", reason="invalid_image") == 5
    assert value(samples, "predictions_total") == 15
    assert value(samples, "in_flight") == 1  # the scrape
    assert len(lines_of_the_log(server, "request")) > 20


def test_requests_of_many_clients_share_forwards(fronted: httpx.Client) -> None:
    forwards, images = (metric(fronted, name) for name in ("batch_size_count", "batch_size_sum"))
    with ThreadPoolExecutor(16) as threads:
        ended = list(threads.map(lambda _: predict(fronted, PNG), range(200)))
    answers = {str(lasting(response.json())) for response in ended}
    assert len(answers) == 1
    more = metric(fronted, "batch_size_count") - forwards
    assert metric(fronted, "batch_size_sum") - images == 200
    assert more < 200


def test_an_overload_is_refused_and_each_refusal_counted_once(
    start_server: StartServer, image_folder: Path, tmp_path: Path
) -> None:
    bundle = trouble_bundle(tmp_path / "slow", image_folder, seconds=0.1)
    server = start_server(bundle=bundle, fronts=1, max_batch=1, max_queue=1)
    with connect(server.url) as client, ThreadPoolExecutor(32) as threads:
        statuses = Counter(threads.map(lambda _: predict(client, plain("white")).status_code, range(200)))
        assert set(statuses) == {200, 429}
        eventually(lambda: metric(client, "http_requests_total", route="/v1/predict") == 200)
        assert metric(client, "refused_total") == statuses[429]
        assert metric(client, "predictions_total") == statuses[200]
        eventually(lambda: predict(client, PNG).status_code == 200)


def test_a_front_that_ends_is_started_again_and_readiness_tells_of_it(start_server: StartServer) -> None:
    server = start_server(fronts=FRONTS, max_batch=4)
    first, second = fronts_of(server)
    with connect(server.url) as client:
        read_prediction(predict(client, PNG))
    os.kill(first, signal.SIGKILL)
    eventually(lambda: second in fronts_of(server) and len(set(fronts_of(server)) - {first}) == 2)
    eventually(lambda: asked(server, "/readyz") == 200)
    for _ in range(8):
        with connect(server.url) as client:
            read_prediction(predict(client, PNG))
    assert [line["front"] for line in lines_of_the_log(server, "a front ended and is started again")] in ([0], [1])


def test_clients_are_told_when_the_process_of_the_models_is_killed(
    start_server: StartServer, image_folder: Path, tmp_path: Path
) -> None:
    bundle = trouble_bundle(tmp_path / "endless", image_folder, seconds=ENDLESS)
    server = start_server(bundle=bundle, fronts=1, max_batch=1, deadline_ms=600_000)
    (front,) = fronts_of(server)
    with connect(server.url) as client, ThreadPoolExecutor() as threads:
        waiting = threads.submit(predict, client, plain("white"))
        eventually(lambda: metric(client, "batch_size_count") == 1)
        server.process.kill()
        read_problem(waiting.result(), 503, "not_ready")
    eventually(lambda: not Path(f"/proc/{front}").exists())


def test_a_client_that_leaves_frees_its_place(start_server: StartServer, image_folder: Path, tmp_path: Path) -> None:
    bundle = trouble_bundle(tmp_path / "slow", image_folder, seconds=1.5)
    server = start_server(bundle=bundle, fronts=1, max_batch=1, deadline_ms=600_000)
    with connect(server.url) as client, ThreadPoolExecutor() as threads:
        first = threads.submit(predict, client, plain("white"))
        eventually(lambda: metric(client, "batch_size_count") == 1)
        with httpx.Client(base_url=server.url, timeout=0.3) as hasty, suppress(httpx.ReadTimeout):
            predict(hasty, PNG)
        eventually(lambda: metric(client, "http_requests_total", status="499") == 1)
        read_prediction(first.result())
        assert metric(client, "batch_size_count") == 1
        assert metric(client, "queue_depth") == 0


def test_a_new_model_that_sees_pictures_otherwise_is_asked_with_its_own_pixels(
    start_server: StartServer, image_folder: Path, tmp_path: Path
) -> None:
    versions = {version: tiny_version(tmp_path / version, image_folder, version) for version in ("1", "2")}
    turned = tiny_version(
        tmp_path / "3",
        image_folder,
        "2",
        preprocessing=Preprocessing(resize=(24, 20), crop=(16, 16), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
    )
    folders = {f"fronts-{fronts}": tmp_path / f"served-{fronts}" / "tiny" for fronts in (0, 1)}
    answers: dict[str, list[Any]] = {}
    for (name, folder), fronts in zip(folders.items(), (0, 1), strict=True):
        install(versions["1"], folder)
        server = start_server(bundle=folder, fronts=fronts, allow_reload=True)
        with connect(server.url) as client:
            answers[name] = []
            for following in (versions["2"], turned):
                answers[name].append(lasting(predict(client, JPEG, "image/jpeg").json()))
                install(following, folder)
                assert client.post("/v1/models/tiny/load").status_code == 200
            answers[name].append(lasting(predict(client, JPEG, "image/jpeg").json()))
    assert answers["fronts-0"] == answers["fronts-1"]
    assert len({str(answer) for answer in answers["fronts-1"]}) == 3


def test_a_front_knows_the_keys_and_their_changes(start_server: StartServer, tmp_path: Path) -> None:
    file, key = tmp_path / "keys", "oodgate_secret"
    file.write_text(line_of("camera", ["predict"], key) + "\n")
    server = start_server(fronts=1, api_keys=file)
    with connect(server.url) as client:
        read_problem(predict(client, PNG), 401, "unauthorized")
        client.headers["Authorization"] = f"Bearer {key}"
        read_prediction(predict(client, PNG))
        file.write_text(line_of("camera", ["metrics"], key) + "\n")
        eventually(lambda: predict(client, PNG).status_code == 403)
        eventually(lambda: client.get("/metrics").status_code == 200)  # the process of the models has them too by now
        assert metric(client, "refused_total", reason="unauthorized") == 1


def test_what_is_rejected_is_kept_as_the_file_that_came(start_server: StartServer, tmp_path: Path) -> None:
    place = tmp_path / "kept"
    server = start_server(fronts=1, quarantine=place)
    with connect(server.url) as client:
        assert read_prediction(predict(client, plain("black"))).decision == "reject"
        eventually(lambda: metric(client, "quarantine_total", outcome="kept") == 1)
    (kept,) = place.glob("files/*/*.png")
    assert kept.read_bytes() == plain("black")


def test_pipelined_and_chunked_requests_are_answered_in_order(fronted: httpx.Client) -> None:
    head = "POST /v1/predict HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\n"
    chunked = f"{head}Transfer-Encoding: chunked\r\nX-Request-Id: a\r\n\r\n{len(PNG):x}\r\n".encode()
    whole = f"{head}Content-Length: {len(PNG)}\r\nX-Request-Id: b\r\nConnection: close\r\n\r\n".encode()
    answer = exchange(fronted, chunked + PNG + b"\r\n0\r\n\r\n" + whole + PNG)
    assert answer.count(b"HTTP/1.1 200 ") == 2
    assert answer.index(b"x-request-id: a") < answer.index(b"x-request-id: b")


def failed_start(**variables: str) -> str:
    """What a service with a front says that does not come up, of which it ends with status 2."""
    fixed = {"OODGATE_FRONTS": "1", "OODGATE_DEVICE": "cpu", "OODGATE_MAX_BATCH": "1", "OODGATE_HOST": "127.0.0.1"}
    command = [sys.executable, "-m", "oodgate.cli", "serve"]
    ended = subprocess.run(
        command, env={**os.environ, **fixed, **variables}, capture_output=True, text=True, timeout=TIMEOUT_S
    )
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    return " ".join(ended.stderr.split())


def test_a_front_that_cannot_live_ends_the_start_in_one_sentence(bundle_folder: Path, tmp_path: Path) -> None:
    fails = 'import os, sys\nif "oodgate.fronts.front" in sys.orig_argv:\n    os._exit(3)\n'
    (tmp_path / "sitecustomize.py").write_text(fails)
    said = failed_start(OODGATE_BUNDLE=str(bundle_folder), OODGATE_PORT="0", PYTHONPATH=str(tmp_path))
    assert "a front ended before it listened" in said


def test_an_address_that_is_taken_ends_the_start_in_one_sentence(bundle_folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        said = failed_start(OODGATE_BUNDLE=str(bundle_folder), OODGATE_PORT=port)
    assert f"cannot listen on 127.0.0.1:{port}; free it or choose another port" in said


def test_fronts_are_refused_where_the_device_is_to_decode(bundle_folder: Path) -> None:
    said = failed_start(OODGATE_BUNDLE=str(bundle_folder), OODGATE_PORT="0", OODGATE_DECODING="device")
    assert "fronts decode images themselves; serve without them, or decode on the host" in said


def fronts_of(server: Server) -> list[int]:
    """The processes that the server has started and that live, in the order of their start."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, parent = (path / "stat").read_text().rpartition(")")[2].split()[:2]
            if int(parent) == server.process.pid and state != "Z":
                found.append(int(path.name))
    return sorted(found)


def asked(server: Server, path: str) -> int:
    """The status that a new connection gets; 0 where it gets none."""
    with connect(server.url) as client, suppress(httpx.HTTPError):
        return client.get(path).status_code
    return 0


def lines_of_the_log(server: Server, event: str) -> list[dict[str, Any]]:
    return [
        record
        for line in server.log_file.read_text().splitlines()
        if line.startswith("{") and (record := json.loads(line))["event"] == event
    ]

"""Loading and unloading over HTTP while images come in."""

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from conftest import Server, StartServer, encoded, random_picture
from contract import connect, eventually, metric, predict, predict_batch, read_prediction, read_problem, scrape, value
from drills.reload import Drill
from networks import ENDLESS, plain, trouble_bundle
from oodgate.api.schemas import ModelList, ModelStatus
from versions import install, tiny_version

PNG = encoded(random_picture(0))
TIMEOUT_S = 120


@pytest.fixture(scope="module")
def versions(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("versions")
    return {version: tiny_version(folder / version, image_folder, version) for version in ("1", "2")}


@pytest.fixture
def folder(versions: dict[str, Path], tmp_path: Path) -> Path:
    """Where the model is served from: version 1 at first."""
    install(versions["1"], tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.fixture
def server(start_server: StartServer, folder: Path) -> Server:
    return start_server(bundle=folder, allow_reload=True)


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with connect(server.url) as connected:
        yield connected


def change(client: httpx.Client, action: str) -> ModelStatus:
    response = client.post(f"/v1/models/tiny/{action}")
    assert response.status_code == 200, response.text
    return ModelStatus.model_validate_json(response.content)


def test_no_answer_is_lost_or_mixed_while_versions_change(
    server: Server, client: httpx.Client, folder: Path, versions: dict[str, Path]
) -> None:
    figures = Drill(server.url, folder, versions).run(requests=2000, reloads=6, clients=16)
    assert figures.faults == []
    assert figures.answered.total() == 2000
    assert set(figures.answered) == {"1", "2"}
    samples = scrape(client)
    assert value(samples, "worker_up") == 1
    assert {dict(pairs)["version"] for name, pairs in samples if name == "oodgate_ood_threshold"} == {"1"}
    log = server.log_file.read_text()
    assert "Traceback" not in log


def test_a_reload_brings_the_series_of_the_new_version_and_ends_the_old(
    client: httpx.Client, folder: Path, versions: dict[str, Path]
) -> None:
    read_prediction(predict(client, PNG))
    install(versions["2"], folder)
    loaded = change(client, "load")
    assert (loaded.version, loaded.state, loaded.default) == ("2", "ready", True)
    assert read_prediction(predict(client, PNG)).model.version == "2"
    labels = [dict(pairs) for name, pairs in scrape(client) if name.startswith("oodgate_")]
    assert {found["version"] for found in labels if "model" in found} == {"2"}


def test_a_failed_load_leaves_the_old_version_serving(client: httpx.Client, folder: Path) -> None:
    before = read_prediction(predict(client, PNG))
    (folder / "model.ts").write_bytes(b"cut short")
    problem = read_problem(client.post("/v1/models/tiny/load"), 422, "load_failed")
    assert "SHA-256 differs" in problem.detail
    assert client.get("/readyz").status_code == 200
    assert read_prediction(predict(client, PNG)).ood == before.ood


def test_an_unloaded_model_is_told_by_its_code_until_it_is_loaded(client: httpx.Client) -> None:
    assert change(client, "unload").state == "unloaded"
    for response in (predict(client, PNG), predict_batch(client, PNG, model="tiny"), client.get("/readyz")):
        read_problem(response, 503, "model_unloaded")
        assert response.headers["retry-after"] == "5"
    (listed,) = ModelList.model_validate_json(client.get("/v1/models").content).models
    assert (listed.version, listed.state, listed.reason) == ("1", "unloaded", None)
    assert not [name for name, pairs in scrape(client) if "model" in dict(pairs)]
    assert change(client, "load").state == "ready"
    read_prediction(predict(client, PNG))


def test_an_unknown_model_cannot_be_loaded(client: httpx.Client) -> None:
    for action in ("load", "unload"):
        read_problem(client.post(f"/v1/models/x/{action}"), 404, "model_not_found")


def test_what_was_accepted_is_answered_before_an_unload_ends(
    start_server: StartServer, image_folder: Path, tmp_path: Path
) -> None:
    bundle = trouble_bundle(tmp_path / "slow", image_folder, seconds=1.5)
    server = start_server(bundle=bundle, allow_reload=True, max_batch=1, deadline_ms=600_000)
    with connect(server.url) as client, ThreadPoolExecutor() as threads:
        accepted = [threads.submit(predict, client, plain("white")) for _ in range(2)]
        eventually(lambda: metric(client, "queue_depth") == 1)
        unloading = threads.submit(change, client, "unload")
        eventually(lambda: client.get("/readyz").status_code == 503)
        read_problem(client.post("/v1/models/tiny/load"), 409, "load_in_progress")
        read_problem(predict(client, PNG), 503, "model_unloaded")
        for response in accepted:
            read_prediction(response.result())
        assert unloading.result().state == "unloaded"


def test_a_forward_without_end_is_abandoned_with_its_version(
    start_server: StartServer, image_folder: Path, tmp_path: Path
) -> None:
    bundle = trouble_bundle(tmp_path / "endless", image_folder, seconds=ENDLESS)
    server = start_server(bundle=bundle, allow_reload=True, deadline_ms=500, drain_delay_ms=0)
    with connect(server.url) as client:
        read_problem(predict(client, plain("white")), 504, "deadline_passed")
        assert change(client, "load").state == "ready"
        read_prediction(predict(client, PNG))
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(TIMEOUT_S) == 1

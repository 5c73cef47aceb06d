"""The drift alarm over HTTP: raised by strange images, kept over restarts and reloads, ended by a reset."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from conftest import StartServer, encoded, random_picture
from contract import (
    connect,
    eventually,
    metric,
    predict,
    predict_batch,
    read_prediction,
    read_problem,
    scrape,
    serving,
    value,
)
from networks import plain
from oodgate.api.schemas import DriftStatus
from oodgate.observability.drift_metrics import OTHER_CLASSES
from versions import install, tiny_version

STRANGE, USUAL = plain("black"), encoded(random_picture(0))
EAGER = {"drift_false_alarms": 0.5, "allow_reload": True}
TIMEOUT_S = 120


@pytest.fixture(scope="module")
def versions(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two versions of the tiny model, which watch the class of black pictures, and all others together."""
    folder = tmp_path_factory.mktemp("versions")
    made = {version: tiny_version(folder / version, image_folder, version) for version in ("1", "2")}
    for bundle in made.values():
        manifest = json.loads((bundle / "bundle.json").read_text())
        manifest["calibration"]["class_alphas"] = {"0": 0.05, "-1": 0.1}
        (bundle / "bundle.json").write_text(json.dumps(manifest))
    return made


@pytest.fixture(scope="module")
def folder(versions: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the model is served from: version 1 at first."""
    folder = tmp_path_factory.mktemp("served") / "tiny"
    install(versions["1"], folder)
    return folder


@pytest.fixture(scope="module")
def shared(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with serving(folder, tmp_path_factory.mktemp("logs"), **EAGER) as connected:
        yield connected


@pytest.fixture
def client(shared: httpx.Client) -> httpx.Client:
    """A client of a service without evidence."""
    reset(shared)
    return shared


def send(client: httpx.Client, data: bytes, times: int) -> None:
    for _ in range(times):
        read_prediction(predict(client, data))


def evidence(client: httpx.Client) -> dict[str, float]:
    """By horizon."""
    samples = scrape(client)
    return {horizon: value(samples, "drift_evidence", horizon=horizon) for horizon in ("long", "short")}


def reset(client: httpx.Client) -> DriftStatus:
    response = client.post("/v1/models/tiny/drift/reset")
    assert response.status_code == 200, response.text
    return DriftStatus.model_validate_json(response.content)


def images_on_disk(state: Path) -> int:
    """How many images the one file counts."""
    files = list(state.glob("drift-tiny-*.json"))
    return int(json.loads(files[0].read_bytes())["overall"]["images"]) if files else 0


def test_strange_images_raise_the_alarm_until_it_is_reset(client: httpx.Client) -> None:
    send(client, USUAL, 2)
    quiet = scrape(client)
    assert value(quiet, "drift_alarm") == value(quiet, "class_drift_alarm") == 0
    send(client, STRANGE, 8)
    loud = scrape(client)
    assert [value(loud, "drift_alarm", horizon=horizon) for horizon in ("long", "short")] == [1, 1]
    assert value(loud, "class_drift_alarm", **{"class": "ant"}) == 1

    status = reset(client)
    assert {horizon: (signal.evidence, signal.raised) for horizon, signal in status.horizons.items()} == {
        "long": (0, False),
        "short": (0, False),
    }
    assert (status.name, status.version, status.classes, status.uncounted) == ("tiny", "1", {}, 0)
    assert metric(client, "drift_alarm") == 0


def test_the_alarm_of_a_class_is_its_own(client: httpx.Client) -> None:
    predictions = [read_prediction(predict(client, plain(colour))) for colour in ("black", "red")]
    classes = {"ant" if answer.predictions[0].class_name == "ant" else OTHER_CLASSES for answer in predictions}
    assert classes == {"ant", OTHER_CLASSES}
    samples = scrape(client)
    assert {dict(pairs)["class"] for name, pairs in samples if "class_drift" in name} == classes
    assert value(samples, "class_drift_alarm") == 0
    send(client, STRANGE, 8)
    alarms = {name: metric(client, "class_drift_alarm", **{"class": name}) for name in classes}
    assert alarms == {"ant": 1, OTHER_CLASSES: 0}


def test_an_unknown_model_has_no_alarm(client: httpx.Client) -> None:
    read_problem(client.post("/v1/models/x/drift/reset"), 404, "model_not_found")


def test_evidence_outlasts_a_killed_process_and_a_stopped_one_and_so_does_its_reset(
    start_server: StartServer, folder: Path, tmp_path: Path
) -> None:
    settings = {"bundle": folder, "state_dir": tmp_path / "state", "drain_delay_ms": 0, **EAGER}
    server = start_server(**settings)
    with connect(server.url) as client:
        send(client, STRANGE, 8)
        before = evidence(client)
        eventually(lambda: images_on_disk(tmp_path / "state") == 8)
    server.process.kill()
    server.process.wait()
    server = start_server(**settings)
    with connect(server.url) as client:
        assert evidence(client) == pytest.approx(before)
        assert metric(client, "drift_alarm", horizon="long") == 1
        reset(client)
        assert images_on_disk(tmp_path / "state") == 0
        send(client, USUAL, 1)
    server.process.terminate()
    assert server.process.wait(TIMEOUT_S) == 0
    assert images_on_disk(tmp_path / "state") == 1


def test_a_reload_goes_on_with_the_evidence_of_the_same_threshold_only(
    client: httpx.Client, folder: Path, versions: dict[str, Path]
) -> None:
    send(client, STRANGE, 8)
    before = evidence(client)

    def load(version: str) -> dict[str, float]:
        install(versions[version], folder)
        assert client.post("/v1/models/tiny/load").json()["version"] == version
        return evidence(client)

    assert load("1") == pytest.approx(before)
    assert load("2") == load("1") == {"long": 0, "short": 0}


def test_a_noisy_client_adds_no_more_than_its_share(start_server: StartServer, folder: Path) -> None:
    with connect(start_server(bundle=folder, drift_client_rate=2).url) as client:
        for name in ("camera-1", "camera-2"):
            client.headers["X-Client-Id"] = name
            send(client, STRANGE, 3)
        assert metric(client, "drift_uncounted") == 2
        for not_plain in ("two words", "others, too", ""):  # told apart by their address, which is the same
            client.headers["X-Client-Id"] = not_plain
            send(client, STRANGE, 1)
        assert metric(client, "drift_uncounted") == 3
        client.headers["X-Client-Id"] = "camera-3"
        predict_batch(client, *[STRANGE] * 3)
        assert metric(client, "drift_uncounted") == 4
        tensor = {"name": "pixels", "datatype": "UINT8", "shape": [1, 1, 1, 3], "data": [0, 0, 0]}
        assert client.post("/v2/models/tiny/infer", json={"inputs": [tensor]}).status_code == 200
        samples = scrape(client)
        assert value(samples, "drift_uncounted") == 5
        assert value(samples, "predictions_total") == 13


def test_without_a_limit_every_image_counts(client: httpx.Client) -> None:
    send(client, STRANGE, 3)
    assert metric(client, "drift_uncounted") == 0

"""What the service keeps of the images that it judges, and that keeping them is never in the way."""

import json
import os
import re
import sqlite3
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from struct import pack
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from conftest import StartServer, encoded, random_picture
from contract import connect, eventually, metric, predict, predict_batch, read_prediction, serving
from networks import plain
from oodgate.api.keeping import Keeping
from oodgate.errors import QuarantineError
from oodgate.observability.metrics import Metrics
from oodgate.settings import Settings

USUAL = encoded(random_picture(0))
OODGATE = Path(sys.executable).with_name("oodgate")
INFER = "/v2/models/tiny/infer"
TIMEOUT_S = 120


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("quarantine") / "kept"


@pytest.fixture(scope="module")
def client(bundle_folder: Path, place: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with serving(bundle_folder, tmp_path_factory.mktemp("logs"), quarantine=place) as connected:
        yield connected


def listed(place: Path) -> dict[str, dict[str, Any]]:
    """What `oodgate quarantine ls --json` shows, by request id."""
    command = [OODGATE, "quarantine", "ls", "--json", "--limit", "1000"]
    environment = {**os.environ, "OODGATE_QUARANTINE": str(place)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=TIMEOUT_S)
    return {image["request_id"]: image for image in json.loads(ended.stdout)["images"]}


def content(place: Path, image: dict[str, Any]) -> bytes:
    (path,) = place.glob(f"files/*/{image['id']}.*")
    return path.read_bytes()


def test_rejected_files_are_kept_exactly_as_they_came(client: httpx.Client, place: Path) -> None:
    colours = ("black", "white", "red", "blue", "green", "yellow")
    sent = {name: plain(colour) for name, colour in zip("abcdef", colours, strict=True)}
    client.headers["X-Request-Id"] = "one"
    rejected = read_prediction(predict(client, sent["a"]))
    predict(client, USUAL)
    client.headers["X-Request-Id"] = "form"
    client.post("/v1/predict", files={"file": ("b.png", sent["b"], "image/png")})
    client.headers["X-Request-Id"] = "many"
    predict_batch(client, USUAL, sent["c"], b"no image", sent["d"])
    client.headers["X-Request-Id"] = "text"
    strings = [b64encode(data).decode() for data in (sent["e"], USUAL)]
    tensor = {"name": "image", "datatype": "BYTES", "shape": [2], "data": strings}
    assert client.post(INFER, json={"inputs": [tensor]}).status_code == 200
    client.headers["X-Request-Id"] = "bytes"
    element = pack("<I", len(sent["f"])) + sent["f"]
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(element)}}
    text = json.dumps({"inputs": [tensor]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(text))}
    assert client.post(INFER, content=text + element, headers=headers).status_code == 200
    pixels = {"name": "pixels", "datatype": "UINT8", "shape": [1, 1, 1, 3], "data": [0, 0, 0]}
    assert client.post(INFER, json={"inputs": [pixels]}).status_code == 200

    eventually(lambda: metric(client, "quarantine_total", outcome="kept") == 6)
    images = listed(place)
    kept = {"one": "a", "form": "b", "many/1": "c", "many/3": "d", "text/0": "e", "bytes/0": "f"}
    assert {id_: content(place, image) for id_, image in images.items()} == {id_: sent[n] for id_, n in kept.items()}
    image = images["one"]
    assert (image["decision"], image["model"], image["version"]) == ("reject", "tiny", "1")
    assert (image["score"], image["p_value"]) == pytest.approx((rejected.ood.score, rejected.ood.p_value))
    assert image["predicted"] == rejected.predictions[0].class_name
    assert image["probability"] == pytest.approx(rejected.predictions[0].probability)
    assert len({image["client"] for image in images.values()}) == 1
    assert re.fullmatch("[0-9a-f]{16}", image["client"])
    assert metric(client, "quarantine_total") == 6


def test_a_disk_that_hangs_slows_no_answer_and_the_rest_is_dropped(client: httpx.Client, place: Path) -> None:
    predict(client, plain("black"))
    eventually(lambda: metric(client, "quarantine_total", outcome="kept") > 0)
    before = metric(client, "quarantine_total")
    other = sqlite3.connect(place / "index.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")  # no image can be written until this ends
    for _ in range(5):
        assert predict_batch(client, *[plain("black")] * 64).status_code == 200
    assert read_prediction(predict(client, plain("black"))).decision == "reject"
    dropped = metric(client, "quarantine_total", outcome="dropped")
    assert dropped in (321 - 256, 321 - 257)  # all but those that wait, and one that is being written
    assert client.get("/readyz").status_code == 200
    other.execute("ROLLBACK")
    other.close()
    eventually(lambda: metric(client, "quarantine_total") == before + 321)
    assert metric(client, "quarantine_total", outcome="dropped") == dropped


def test_accepted_images_are_kept_where_a_share_is_asked_for_and_what_waits_is_written_at_the_end(
    start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server(quarantine=tmp_path / "kept", quarantine_accepted_share=1, drain_delay_ms=0)
    with connect(server.url) as client:
        predict_batch(client, USUAL, *(plain(f"#0000{blue:02x}") for blue in range(60)))
    server.process.terminate()
    assert server.process.wait(TIMEOUT_S) == 0
    (accepted,) = (image for image in listed(tmp_path / "kept").values() if image["decision"] == "accept")
    assert (accepted["share"], content(tmp_path / "kept", accepted)) == (1, USUAL)
    assert len(list((tmp_path / "kept").glob("files/*/*.png"))) == 61


def test_a_quarantine_that_cannot_be_written_is_counted_and_logged(start_server: StartServer, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "files").write_text("a file where a folder should be")
    server = start_server(quarantine=tmp_path / "kept")
    with connect(server.url) as client:
        for _ in range(3):
            read_prediction(predict(client, plain("black")))
        eventually(lambda: metric(client, "quarantine_total", outcome="failed") == 3)
        assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
    assert server.log_file.read_text().count("the quarantine cannot be written") == 1


@pytest.mark.parametrize(
    ("place", "word"),
    [(__file__, "index"), ("memory://kept", "OODGATE_STATE_DIR"), ("unknown://kept", "unknown"), ("ftp://0:1/", "ftp")],
)
def test_a_quarantine_that_cannot_be_opened_is_the_operators_trouble(tmp_path: Path, place: str, word: str) -> None:
    state = None if place.startswith("memory:") else tmp_path
    with pytest.raises(QuarantineError, match=word):
        Keeping(Settings(quarantine=place, state_dir=state), Metrics(CollectorRegistry()))


def test_nothing_is_kept_unless_it_is_asked_for(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(state_dir=tmp_path / "state", drain_delay_ms=0)
    with connect(server.url) as client:
        read_prediction(predict(client, plain("black")))
        assert metric(client, "quarantine_total") == 0
    server.process.terminate()
    assert server.process.wait(TIMEOUT_S) == 0
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".log"}
    assert not [path for path in files if plain("black") in path.read_bytes()]

"""What a running service writes to standard error."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import PngImagePlugin

from conftest import Server, StartServer, encoded, random_picture
from contract import connect
from networks import plain, trouble_bundle

SECRET = "the-secret-of-the-client"
FULL = """
import sys

import structlog

from oodgate.observability.logs import configure_logs, request_log

configure_logs(sys.argv[1], "info")
write, log = request_log(), structlog.get_logger()
for _ in range(3000):
    write(path="/" * 1000)
    log.info("a line", text="x" * 1000)
print("answered")
"""


@pytest.fixture(scope="module")
def bundle(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trouble_bundle(tmp_path_factory.mktemp("trouble") / "bundle", image_folder)


def secretive_picture() -> bytes:
    """A PNG file with readable text in it."""
    notes = PngImagePlugin.PngInfo()
    notes.add_text("note", SECRET)
    return encoded(random_picture(0), pnginfo=notes)


def make_requests(server: Server) -> None:
    """One prediction, one that fails in the forward, one bad image, one unknown path; then stop the server."""
    with connect(server.url) as client:
        headers = {"Content-Type": "image/png", "Authorization": f"Bearer {SECRET}"}
        for name, data in (("good", secretive_picture()), ("failing", plain("red")), ("bad", SECRET.encode())):
            client.post("/v1/predict", content=data, headers={**headers, "X-Request-Id": name})
        client.get("/unknown%0Apath", headers={"X-Request-Id": "unknown"})
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) == 0


def test_json_logs_are_one_record_a_line_with_the_request_id(start_server: StartServer, bundle: Path) -> None:
    server = start_server(bundle=bundle, log_format="json", drain_delay_ms=0)
    make_requests(server)
    text = server.log_file.read_text()
    records: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
    assert all({"event", "level", "timestamp"} <= record.keys() for record in records)

    requests = {record["request_id"]: record for record in records if record["event"] == "request"}
    assert {name: (record["method"], record["path"], record["status"]) for name, record in requests.items()} == {
        "good": ("POST", "/v1/predict", 200),
        "failing": ("POST", "/v1/predict", 500),
        "bad": ("POST", "/v1/predict", 400),
        "unknown": ("GET", "/unknown\npath", 404),
    }
    assert all(record["duration_ms"] > 0 for record in requests.values())
    assert requests["good"]["decision"] in ("accept", "reject")
    assert {name for name, record in requests.items() if "decision" in record} == {"good"}
    assert {name: record["code"] for name, record in requests.items() if "code" in record} == {
        "failing": "inference_failed",
        "bad": "invalid_image",
        "unknown": "not_found",
    }

    (loaded,) = (record for record in records if record["event"] == "loaded")
    assert (loaded["model"], loaded["version"], loaded["device"]) == ("tiny", "1", "cpu")
    (ready,) = (record for record in records if record["event"] == "ready")
    assert (ready["default"], ready["models"]) == ("tiny", ["tiny"])
    (failure,) = (record for record in records if record["event"] == "a batch failed")
    assert failure["level"] == "error"
    assert "red picture" in failure["exception"][0]["exc_value"]

    # Neither images nor headers, and no local variables, which would hold them.
    assert SECRET not in text
    assert "PNG" not in text
    assert "locals" not in json.dumps([sorted(frame) for frame in failure["exception"][0]["frames"]])


def test_console_logs_are_text_on_request(start_server: StartServer, bundle: Path) -> None:
    server = start_server(bundle=bundle, log_format="console", drain_delay_ms=0)
    make_requests(server)
    text = server.log_file.read_text()
    lines = text.splitlines()
    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(lines[0])
    for name, status in (("good", 200), ("failing", 500), ("bad", 400), ("unknown", 404)):
        (line,) = (line for line in lines if name in line and "duration_ms" in line)
        assert str(status) in line
    assert "there is a red picture" in text
    assert SECRET not in text
    assert "PNG" not in text


def test_a_terminal_shows_what_a_path_holds_and_does_not_obey_it(start_server: StartServer, bundle: Path) -> None:
    server = start_server(bundle=bundle, log_format="console", drain_delay_ms=0)
    with connect(server.url) as client:
        client.get("/clear%1B[2J")
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) == 0
    text = server.log_file.read_text()
    assert "/clear\\x1b[2J" in text
    assert "\x1b[2J" not in text


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_log_that_cannot_be_written_costs_no_answer(tmp_path: Path, log_format: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(FULL)
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run([sys.executable, program, log_format], stderr=full, stdout=subprocess.PIPE, check=False)
    assert ended.stdout == b"answered\n"

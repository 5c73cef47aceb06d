"""The file of the drift alarm's evidence."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from time import monotonic, sleep

import pytest
from structlog.testing import capture_logs

from oodgate.observability.drift import DriftAlarm
from oodgate.observability.drift_store import DriftStore


def fed(rejections: int, identity: str = "mine") -> DriftAlarm:
    alarm = DriftAlarm(0.05, 0.01, identity=identity)
    for _ in range(rejections):
        alarm.update(True)
    return alarm


def restored(path: Path, identity: str = "mine") -> DriftAlarm:
    alarm = fed(0, identity)
    DriftStore(path, alarm)
    return alarm


def test_evidence_outlasts_the_process(tmp_path: Path) -> None:
    alarm = fed(5)
    DriftStore(tmp_path / "kept" / "drift.json", alarm).save()
    assert restored(tmp_path / "kept" / "drift.json").state() == alarm.state()


def test_no_file_is_a_new_stream_and_nothing_to_complain_about(tmp_path: Path) -> None:
    with capture_logs() as logs:
        assert restored(tmp_path / "drift.json").state() == fed(0).state()
    assert logs == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"{}", b"[" * 100_000, b'{"identity": "mine"}', b"null"])
def test_a_damaged_file_starts_anew_with_a_warning(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "drift.json").write_bytes(content)
    with capture_logs() as logs:
        assert restored(tmp_path / "drift.json").evidence == 0
    assert [entry["log_level"] for entry in logs] == ["warning"]


def test_a_file_of_another_threshold_starts_anew_and_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "drift.json"
    DriftStore(path, fed(5, "other")).save()
    alarm = fed(0)
    store = DriftStore(path, alarm)
    assert alarm.evidence == 0
    store.save()
    assert restored(path).state() == alarm.state()


def test_the_thread_writes_what_has_changed_and_close_the_rest(tmp_path: Path) -> None:
    path, alarm = tmp_path / "drift.json", fed(1)
    store = DriftStore(path, alarm, every_s=0.01)
    store.start()
    deadline = monotonic() + 30
    while not path.exists() and monotonic() < deadline:
        sleep(0.01)
    assert json.loads(path.read_bytes())["overall"]["images"] == 1
    alarm.update(False)
    store.close()
    assert json.loads(path.read_bytes()) == alarm.state()
    assert not [thread for thread in threading.enumerate() if thread.name == "oodgate-drift"]


def test_nothing_is_written_where_nothing_changed(tmp_path: Path) -> None:
    path = tmp_path / "drift.json"
    store = DriftStore(path, fed(1))
    store.save()
    path.unlink()
    store.save()
    store.close()
    assert not path.exists()


def test_a_file_that_cannot_be_written_costs_one_complaint_a_minute(tmp_path: Path) -> None:
    (tmp_path / "blocked").write_text("a file where a folder should be")
    store = DriftStore(tmp_path / "blocked" / "drift.json", fed(1), every_s=0.001)
    with pytest.raises(OSError):
        store.save()
    with capture_logs() as logs:
        store.start()
        sleep(0.3)
        store.close()
    complaints = [entry for entry in logs if entry["log_level"] == "error"]
    assert len(complaints) == 2  # one while it ran, one at the end
    assert "blocked" in str(complaints[0]["file"])


KILLED = """
import sys, pathlib
from oodgate.observability.drift import DriftAlarm
from oodgate.observability.drift_store import DriftStore
alarm = DriftAlarm(0.05, 0.01, dict.fromkeys(range(200), 0.05), "mine")
store = DriftStore(pathlib.Path(sys.argv[1]), alarm)
for image in range(10**9):
    alarm.update(image % 20 == 0, image % 200)
    store.save()
    print(flush=True)
"""


def test_a_killed_process_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "drift.json"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE)
    assert process.stdout
    for _ in range(50):
        process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    alarm = DriftAlarm(0.05, 0.01, dict.fromkeys(range(200), 0.05), "mine")
    assert alarm.restore(json.loads(path.read_bytes()))
    assert alarm.state()["overall"]["images"] >= 50

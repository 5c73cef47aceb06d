"""Children: what is passed to them, what they use, and that they end."""

import os
import sys
from pathlib import Path

import pytest

from contract import eventually
from oodgate.bench.process import free_port, get, last_lines, running, usage, wait_until_ready
from oodgate.bench.served import environment_of
from oodgate.errors import SetupError
from oodgate.settings import Settings

WITH_A_CHILD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


def alive(pid: int) -> bool:
    """Whether a process runs; one that waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_child_ends_with_its_own_children_and_what_both_use_is_known(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running([sys.executable, "-c", WITH_A_CHILD], os.environ, log) as process:
        eventually(lambda: log.read_text().endswith("\n"))
        child = int(log.read_text())
        both, one = usage(process.pid), usage(child)
        assert both and one
        assert both.rss_bytes > one.rss_bytes > 0
    assert process.returncode is not None
    eventually(lambda: not alive(child))


def test_a_server_that_ends_is_an_error_with_the_end_of_its_log(tmp_path: Path) -> None:
    log, port = tmp_path / "log", free_port()
    with (
        running([sys.executable, "-c", "raise SystemExit('no such bundle')"], os.environ, log) as process,
        pytest.raises(SetupError, match="ended with status 1: no such bundle"),
    ):
        wait_until_ready(process, port, "/readyz", log)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_process_whose_name_ends_within_a_letter_is_counted_as_any_other(tmp_path: Path) -> None:
    log = tmp_path / "log"
    rename = "import ctypes, time; ctypes.CDLL(None).prctl(15, 'bilderprüfungä'.encode()[:15]); print(1, flush=True)"
    with running([sys.executable, "-c", f"{rename}; time.sleep(600)"], os.environ, log) as process:
        eventually(lambda: log.read_text() == "1\n")
        found = usage(process.pid)
        assert found
        assert found.rss_bytes > 0


def test_of_a_long_log_the_last_error_is_told(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("Traceback\n  line 1\nValueError: first\nTraceback\nfoo.BarError: last\nat: somewhere\n;\n")
    assert last_lines(log) == "foo.BarError: last"
    log.write_text("one\ntwo\nthree\nfour\n")
    assert last_lines(log) == "two | three | four"


def test_a_server_that_never_becomes_ready_is_given_up(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with (
        running([sys.executable, "-c", "import time; time.sleep(600)"], os.environ, log) as process,
        pytest.raises(SetupError, match="did not become ready"),
    ):
        wait_until_ready(process, free_port(), "/readyz", log, timeout_s=0.1)


def test_a_port_that_nobody_listens_on_answers_nothing() -> None:
    assert get(free_port(), "/readyz") == (0, "")


def test_a_service_gets_the_operator_s_settings_but_for_address_models_and_what_it_would_keep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OODGATE_MODELS", "elsewhere")
    monkeypatch.setenv("OODGATE_DECODE_THREADS", "3")
    monkeypatch.setenv("OODGATE_HOST", "192.0.2.1")
    monkeypatch.setenv("OODGATE_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("OODGATE_QUARANTINE", str(tmp_path))
    monkeypatch.setenv("OODGATE_API_KEYS", str(tmp_path))
    variables = environment_of(Settings(bundle=tmp_path, max_batch=5), 4711)
    own = {name: value for name, value in variables.items() if name.startswith("OODGATE_")}
    assert not {"OODGATE_MODELS", "OODGATE_STATE_DIR", "OODGATE_QUARANTINE", "OODGATE_API_KEYS"} & set(own)
    expected = {"BUNDLE": str(tmp_path), "DECODE_THREADS": "3", "MAX_BATCH": "5", "HOST": "127.0.0.1", "PORT": "4711"}
    assert expected.items() <= {name.removeprefix("OODGATE_"): value for name, value in own.items()}.items()
    for name in set(os.environ) - set(variables):
        assert name.startswith("OODGATE_")


def test_a_service_reads_the_same_settings_from_its_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(bundle=tmp_path, max_wait_ms=2.5, precision="bfloat16", image_formats="png")
    for name, value in environment_of(settings, settings.port).items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings

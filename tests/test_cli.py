"""The commands: options, answers for machines, errors in one sentence."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from shutil import copytree

import pytest
import typer
from typer.testing import CliRunner

from conftest import tiny_bundle
from oodgate.bundle import load_bundle
from oodgate.cli import app, main
from oodgate.settings import Settings

RUNNER = CliRunner()
OODGATE = Path(sys.executable).with_name("oodgate")


def run(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """The installed command, in a process of its own."""
    command = [OODGATE, *map(str, arguments)]
    return subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, timeout=120)


def assert_one_sentence(stderr: str, *words: str) -> None:
    """Nothing but one line that names the program and what is wrong."""
    (line,) = stderr.strip().splitlines()
    assert line.startswith("oodgate: ")
    assert all(word in line for word in words)


def error_of(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object) -> str:
    """What a command that must fail on purpose writes to standard error."""
    monkeypatch.setattr(sys, "argv", ["oodgate", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_every_setting_is_an_option_of_serve_and_no_other() -> None:
    serve = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
    options = {name for parameter in serve.params for name in parameter.opts} - {"--help"}
    assert options == {f"--{name.replace('_', '-')}" for name in Settings.model_fields}


AUTO = {"workers", "threads", "max_batch", "decode_threads"}


def test_help_of_serve_tells_variable_default_and_meaning_of_every_setting() -> None:
    result = RUNNER.invoke(app, ["serve", "--help"], env={"COLUMNS": "400"})
    lines = {words[1]: line for line in result.stdout.splitlines() if len(words := line.split()) > 1}
    for name, field in Settings.model_fields.items():
        line = lines[f"--{name.replace('_', '-')}"]
        assert f"{field.description} [env: OODGATE_{name.upper()}]" in line
        default = "auto" if name in AUTO else field.default
        assert (f"[default: {default}]" in line) == ("[default:" in line) == (default not in (None, "", ()))
    assert "[range: at least 0, at most 65535]" in lines["--port"]
    assert "[range: above 0, below 1]" in lines["--drift-false-alarms"]


def test_commands_are_those_that_others_rely_on() -> None:
    result = RUNNER.invoke(app, ["--help"])
    assert result.exit_code == 0
    for command in ("serve", "export", "calibrate", "evaluate", "predict", "inspect"):
        assert command in result.stdout


def test_inspect_prints_the_manifest_for_machines(bundle_folder: Path) -> None:
    result = RUNNER.invoke(app, ["inspect", str(bundle_folder)])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == load_bundle(bundle_folder).manifest.model_dump(mode="json")


def test_a_missing_bundle_is_one_sentence(tmp_path: Path) -> None:
    ended = run("inspect", tmp_path / "nothing")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert_one_sentence(ended.stderr, "there is no bundle in", "nothing", "export")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("model.ts", b"changed", ("model.ts", "SHA-256 differs")),
        ("state.safetensors", b"", ("state.safetensors", "SHA-256 differs")),
        ("bundle.json", b"{", ("bundle.json", "not JSON")),
        ("bundle.json", b'{"format_version": 99}', ("format version 99",)),
        ("bundle.json", b'{"format_version": 1}', ("not valid at 'name'",)),
    ],
)
def test_a_damaged_bundle_is_one_sentence(
    bundle_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    content: bytes,
    words: tuple[str, ...],
) -> None:
    damaged = copytree(bundle_folder, tmp_path / "damaged")
    (damaged / name).write_bytes(content)
    assert_one_sentence(error_of(capsys, monkeypatch, "inspect", damaged), *words)


def test_serving_without_a_threshold_is_one_sentence(tmp_path: Path) -> None:
    tiny_bundle(tmp_path / "tiny")
    ended = run("serve", "--bundle", tmp_path / "tiny", "--device", "cpu", "--port", "0")
    assert ended.returncode == 2
    *log, last = ended.stderr.splitlines()
    assert_one_sentence(last, "'tiny' has no threshold yet", "oodgate calibrate")
    assert all(json.loads(line)["event"] for line in log)


def test_a_taken_port_is_told_in_one_sentence_at_the_end(bundle_folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = run("serve", "--bundle", bundle_folder, OODGATE_PORT=port, OODGATE_DEVICE="cpu")
    assert ended.returncode == 2
    *log, last = ended.stderr.splitlines()
    assert_one_sentence(last, f"cannot listen on 127.0.0.1:{port}")
    assert not any(json.loads(line)["event"] in ("measured", "loaded", "ready") for line in log)


@pytest.mark.parametrize(
    ("variable", "value", "word"),
    [
        ("OODGATE_PORT", "http", "integer"),
        ("OODGATE_PORT", "65536", "65535"),
        ("OODGATE_MAX_QUEUE", "0", "1"),
        ("OODGATE_DEVICE", "tpu", "'auto', 'cuda' or 'cpu'"),
        ("OODGATE_IMAGE_FORMATS", "png,svg", "svg"),
    ],
)
def test_a_bad_variable_is_named_with_its_option(variable: str, value: str, word: str) -> None:
    result = RUNNER.invoke(app, ["serve"], env={variable: value, "COLUMNS": "400"})
    assert result.exit_code == 2
    assert variable in result.stderr
    assert f"--{variable.removeprefix('OODGATE_').lower().replace('_', '-')}" in result.stderr
    assert word in result.stderr
    assert "Traceback" not in result.stderr


def test_a_bad_option_is_named(bundle_folder: Path) -> None:
    result = RUNNER.invoke(app, ["serve", "--max-pixels", "0"], env={"COLUMNS": "400"})
    assert result.exit_code == 2
    assert "--max-pixels" in result.stderr
    assert "greater than or equal to 1" in result.stderr


def test_a_file_that_is_not_there_is_one_sentence(
    bundle_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sentence = error_of(capsys, monkeypatch, "predict", bundle_folder, tmp_path / "absent.png")
    assert_one_sentence(sentence, str(tmp_path / "absent.png"), "No such file or directory")


def test_two_sets_of_one_name_are_refused(bundle_folder: Path, image_folder: Path) -> None:
    sets = ["--ood", f"x={image_folder}", "--ood", f"x={bundle_folder}"]
    result = RUNNER.invoke(app, ["evaluate", str(bundle_folder), "--id", str(image_folder), *sets])
    assert result.exit_code == 2
    assert "two sets are called 'x'" in result.stderr

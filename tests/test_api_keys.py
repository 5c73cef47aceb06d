"""Keys of clients: the command that makes them, and the file that knows them."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from conftest import ROOT
from oodgate.api_keys import MAX_FILE_BYTES, SCOPES, ApiKey, add_line, hash_of, line_of, make_key, read_keys
from oodgate.cli import app
from oodgate.errors import SetupError

RUNNER = CliRunner()


def written(file: Path, *lines: str) -> Path:
    file.write_text("\n".join(lines))
    return file


def test_the_command_prints_a_key_once_and_adds_its_hash_to_the_file(tmp_path: Path) -> None:
    file = tmp_path / "keys.txt"
    words = ["key", "camera", "--scope", "predict", "--scope", "metrics", "--file", str(file)]
    first, second = RUNNER.invoke(app, words), RUNNER.invoke(app, words)
    keys = [result.stdout.strip() for result in (first, second)]
    assert first.exit_code == second.exit_code == 0
    assert all(re.fullmatch(r"oodgate_[A-Za-z0-9_-]{43}", key) for key in keys)
    both = ApiKey("camera", frozenset({"predict", "metrics"}))
    assert read_keys(file) == {hash_of(key.encode()): both for key in keys}
    assert len(set(keys)) == 2
    assert not any(key in file.read_text() + result.stderr for key in keys for result in (first, second))


def test_the_command_without_a_file_prints_the_line_for_one(tmp_path: Path) -> None:
    key, line = RUNNER.invoke(app, ["key", "camera"], env={"OODGATE_API_KEYS": ""}).stdout.splitlines()
    assert line == line_of("camera", ["predict"], key)
    assert read_keys(written(tmp_path / "keys", line)) == {
        hash_of(key.encode()): ApiKey("camera", frozenset(["predict"]))
    }


@pytest.mark.parametrize(
    ("name", "scope"), [("two words", "predict"), ("", "predict"), ("a" * 65, "admin"), ("a", "root")]
)
def test_a_name_or_a_scope_that_is_none_makes_no_key(tmp_path: Path, name: str, scope: str) -> None:
    result = RUNNER.invoke(app, ["key", name, "--scope", scope, "--file", str(tmp_path / "keys")])
    assert isinstance(result.exception, SetupError)
    assert not (tmp_path / "keys").exists()


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="cannot be written"):
        add_line(tmp_path, "line")


def test_a_line_is_added_below_one_that_has_no_end(tmp_path: Path) -> None:
    file = written(tmp_path / "keys", "# mine", "", line_of("a", ["predict"], "first"))
    add_line(file, line_of("b", ["admin"], "second"))
    assert [key.name for key in read_keys(file).values()] == ["a", "b"]


@pytest.mark.parametrize(
    ("lines", "word"),
    [
        (["# nothing"], "no key"),
        (["SECRET"], "line 1"),
        (["a predict SECRET"], "line 1"),
        (["a predict " + "A" * 64], "line 1"),
        (["a predict " + "a" * 64 + " more"], "line 1"),
        (["# a", "a root " + "a" * 64], "line 2 .* unknown scope"),
        (["a predict, " + "a" * 64], "unknown scope"),
        (["a predict " + "a" * 64, "b admin " + "a" * 64], "line 2 .* repeats"),
        (["# " + "a" * MAX_FILE_BYTES], "too many"),
    ],
)
def test_a_file_that_is_not_whole_is_refused_without_showing_what_is_in_it(
    tmp_path: Path, lines: list[str], word: str
) -> None:
    with pytest.raises(SetupError, match=word) as refused:
        read_keys(written(tmp_path / "keys", *lines))
    assert "SECRET" not in str(refused.value)


def test_no_file_is_told_with_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="oodgate key"):
        read_keys(tmp_path / "keys")


def test_keys_do_not_repeat() -> None:
    assert len({make_key() for _ in range(100)}) == 100


def test_the_commands_of_the_page_make_keys_with_the_scopes_that_they_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    section = (ROOT / "docs" / "security.md").read_text().partition("## Who may ask")[2].partition("## ")[0]
    commands = re.findall(r"^\$ oodgate (.+)\noodgate_[\w-]{43}$", section, re.MULTILINE)
    for command in commands:
        assert RUNNER.invoke(app, shlex.split(command)).exit_code == 0
    made = {key.name: key.scopes for key in read_keys(tmp_path / "keys.txt").values()}
    assert made == {"camera": {"predict"}, "prometheus": {"metrics"}}
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == set(SCOPES)

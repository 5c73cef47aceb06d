"""The commands, as people run them."""

import json
import os
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from oodgate import quarantine_cli
from oodgate.quarantine.archive import Archive, open_archive
from quarantined import ROOMY, kept, png, record, seconds

OODGATE = Path(sys.executable).with_name("oodgate")


def run(place: object, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OODGATE_QUARANTINE": str(place), "COLUMNS": "200", **variables}
    command = [OODGATE, "quarantine", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)


def answered(place: object, *arguments: object, **variables: str) -> str:
    ended = run(place, *arguments, **variables)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def refused(place: object, *arguments: object) -> str:
    """The one sentence of a command that fails on purpose."""
    ended = run(place, *arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    (line,) = ended.stderr.strip().splitlines()
    assert line.startswith("oodgate: ")
    return line


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """Three rejected images."""
    return kept(tmp_path / "kept", 1, 2, 3)


@pytest.fixture
def place(archive: Archive, tmp_path: Path) -> Path:
    return tmp_path / "kept"


def test_images_are_listed_for_people_and_for_machines(archive: Archive, place: Path) -> None:
    entries = archive.index.entries()
    archive.label(entries[0], "in", "dog")
    table = answered(place, "ls")
    assert all(entry.id[:12] in table for entry in entries)
    assert "in dog" in table
    listed = json.loads(answered(place, "ls", "--json", "--label", "none", "--decision", "reject", "--limit", "1"))
    assert listed == {"images": [entries[1].as_dict()]}


def test_a_narrow_terminal_shows_ids_times_decisions_and_p_values_whole(
    archive: Archive, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = StringIO()
    monkeypatch.setattr(quarantine_cli, "out", Console(width=80, file=screen))
    quarantine_cli.list_images(place=str(place))
    table = screen.getvalue()
    for entry in archive.index.entries():
        record = entry.as_dict()
        assert record["id"][:12] in table
        assert record["time"][:19] in table
        assert f"{record['p_value']:.4f}" in table
    assert table.count(" reject ") == len(archive.index.entries())


def test_what_reads_a_pipe_gets_every_word_whole(archive: Archive, place: Path) -> None:
    assert answered(place, "ls", COLUMNS="40").count(" reject ") == len(archive.index.entries())


def test_an_image_is_shown_with_its_file(archive: Archive, place: Path) -> None:
    entry = archive.index.entries()[0]
    shown = json.loads(answered(place, "show", entry.id[:6]))
    assert shown.pop("file") == archive.files.where(entry.name)
    assert shown == entry.as_dict()


def test_images_are_labelled_and_exported(archive: Archive, place: Path, tmp_path: Path) -> None:
    third, second, first = (entry.id for entry in archive.index.entries())
    told = answered(place, "label", first[:8], second, "in", "dog")
    assert told.splitlines() == [f"{first[:12]}: in, class dog", f"{second[:12]}: in, class dog"]
    assert answered(place, "label", third, "out") == f"{third[:12]}: out\n"
    assert answered(place, "export", "--label", "in", "--out", tmp_path / "in").startswith("2 images")
    assert {path.read_bytes() for path in (tmp_path / "in" / "dog").iterdir()} == {png(1), png(2)}
    answered(place, "export", "--label", "out", "--out", tmp_path / "out")
    assert [path.read_bytes() for path in (tmp_path / "out").iterdir()] == [png(3)]


def test_pruning_takes_its_bounds_from_the_service_s_variables(archive: Archive, place: Path) -> None:
    archive.files.write("ab" * 32 + ".png", b"stray")
    bounds = {"OODGATE_QUARANTINE_BYTES": str(len(png(1)) * 3 // 2), "OODGATE_QUARANTINE_AGE_DAYS": "1000000"}
    told = answered(place, "prune", **bounds)
    assert told.startswith("2 images removed, 1 remains of interrupted writings")
    assert seconds(archive) == [2]


def test_files_at_a_url_are_reached_by_the_state_folder(tmp_path: Path) -> None:
    url = (tmp_path / "remote").as_uri()
    archive = open_archive(url, tmp_path / "state", create=True)
    archive.keep(png(1), record(), 1.0, ROOMY)
    listed = json.loads(answered(url, "ls", "--json", OODGATE_STATE_DIR=str(tmp_path / "state")))
    assert len(listed["images"]) == 1
    assert "OODGATE_STATE_DIR" in refused(url, "ls")


def test_mistakes_are_one_sentence(archive: Archive, place: Path, tmp_path: Path) -> None:
    known = archive.index.entries()[0].id
    assert "OODGATE_QUARANTINE" in refused("", "ls")
    assert "there is no quarantine in" in refused(tmp_path / "nothing", "ls")
    assert "no image has an id beginning with 'ffffffff'" in refused(place, "show", "ffffffff")
    assert "is not ID... in|out [CLASS]" in refused(place, "label", known)
    assert "is not ID... in|out [CLASS]" in refused(place, "label", "in", "dog")
    assert "is not ID... in|out [CLASS]" in refused(place, "label", known, "in", "big", "dog")
    assert "no class, and 'dog' was given" in refused(place, "label", known, "out", "dog")
    archive.files.remove(archive.find(known).name)
    archive.label(archive.find(known), "in", "dog")
    assert "oodgate quarantine prune" in refused(place, "export", "--label", "in", "--out", tmp_path / "in")


def test_one_wrong_id_labels_none_of_the_images(archive: Archive, place: Path) -> None:
    refused(place, "label", archive.index.entries()[0].id, "ffffffff", "out")
    assert [entry.label for entry in archive.index.entries()] == [None] * 3

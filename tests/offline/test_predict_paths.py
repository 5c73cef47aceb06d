"""Files judged without a server: each by itself."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from conftest import encoded, random_picture
from oodgate.bundle import load_bundle
from oodgate.cli import app
from oodgate.errors import SetupError
from oodgate.gate import Gate
from oodgate.offline.predict import predict_paths


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Three images, of which the second is cut short."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    for number in range(3):
        whole = encoded(random_picture(number))
        (folder / f"{number}.png").write_bytes(whole[:60] if number == 1 else whole)
    return folder


def test_a_broken_file_costs_no_other_its_verdict(bundle_folder: Path, mixed: Path) -> None:
    gate = Gate(load_bundle(bundle_folder), "cpu")
    first, broken, third = predict_paths(gate, [mixed], lambda count: None)
    assert broken.keys() == {"path", "problem"}
    assert "cut short" in broken["problem"]
    for number, record in ((0, first), (2, third)):
        (alone,) = predict_paths(gate, [mixed / f"{number}.png"], lambda count: None)
        assert record["path"] == alone["path"]
        assert record["score"] == pytest.approx(alone["score"], rel=1e-5)


def test_nothing_but_broken_files_has_no_verdict(bundle_folder: Path, mixed: Path) -> None:
    (record,) = predict_paths(Gate(load_bundle(bundle_folder), "cpu"), [mixed / "1.png"], lambda count: None)
    assert "problem" in record


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_the_command_shows_all_verdicts_and_fails_for_those_that_are_missing(
    bundle_folder: Path, mixed: Path, options: list[str]
) -> None:
    result = CliRunner().invoke(app, ["predict", str(bundle_folder), str(mixed), *options])
    assert isinstance(result.exception, SetupError)
    assert "1 of 3 files have no verdict" in str(result.exception)
    if options:
        assert ["problem" in record for record in json.loads(result.stdout)["results"]] == [False, True, False]
    else:
        assert "cut short" in result.stdout
        assert "2.png" in result.stdout

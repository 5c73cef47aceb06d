import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import ROOT, encoded, random_picture
from oodgate.bundle import load_bundle
from oodgate.gate import Gate
from oodgate.offline.measures import measure
from oodgate.offline.predict import predict_paths


def run_cli(*words: object) -> str:
    """Standard output of a command that succeeds."""
    command = [sys.executable, "-m", "oodgate.cli", *map(str, words)]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout


@pytest.fixture(scope="module")
def strange_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty pictures of noise."""
    folder = tmp_path_factory.mktemp("strange")
    for index in range(40):
        (folder / f"{index}.png").write_bytes(encoded(random_picture(index)))
    return folder


@pytest.fixture(scope="module")
def report(
    tmp_path_factory: pytest.TempPathFactory, bundle_folder: Path, image_folder: Path, strange_folder: Path
) -> Path:
    """The folder that `--out` wrote, with standard output beside it."""
    folder = tmp_path_factory.mktemp("report")
    words = ["evaluate", bundle_folder, "--id", image_folder, "--ood", f"noise={strange_folder}", "--device", "cpu"]
    (folder / "stdout.json").write_text(run_cli(*words, "--out", folder, "--json"))
    return folder


@pytest.fixture(scope="module")
def printed(report: Path) -> dict[str, Any]:
    return dict(json.loads((report / "stdout.json").read_text()))


def test_standard_output_is_one_object_with_the_sets_and_their_mean(printed: dict[str, Any]) -> None:
    assert printed["id"] == {"images": 200, "accuracy": None}
    assert set(printed["sets"]) == {"noise"}
    assert printed["sets"]["noise"] == printed["mean"]
    assert set(printed["mean"]["nap-energy"]) == {"fpr95", "auroc", "aupr"}


def test_measures_are_those_of_the_gates_own_scores(
    printed: dict[str, Any], bundle_folder: Path, image_folder: Path, strange_folder: Path
) -> None:
    gate = Gate(load_bundle(bundle_folder), "cpu")
    known, strange = (
        np.array([row["score"] for row in predict_paths(gate, [folder], lambda count: None)])
        for folder in (image_folder, strange_folder)
    )
    expected = measure(known, strange)
    assert printed["mean"]["nap-energy"]["auroc"] == pytest.approx(expected.auroc, abs=0.05)
    assert printed["mean"]["nap-energy"]["fpr95"] == pytest.approx(expected.fpr95, abs=2.5)
    assert printed["accepted"]["noise"] == pytest.approx(100 * (strange >= gate.calibration.threshold).mean(), abs=2.5)


def test_scores_that_are_not_fitted_are_left_out(printed: dict[str, Any]) -> None:
    assert "ash" in printed["mean"]
    assert "knn" not in printed["mean"]


def test_the_report_has_a_page_and_tables_of_the_same_numbers(report: Path, printed: dict[str, Any]) -> None:
    assert json.loads((report / "measures.json").read_text()) == printed
    rows = list(csv.DictReader((report / "measures.csv").read_text().splitlines()))
    assert {row["scorer"] for row in rows} == set(printed["mean"])
    assert "<html" in (report / "report.html").read_text()
    assert "nap-energy" in (report / "measures.md").read_text()


def test_saved_measures_are_in_the_bundle(
    bundle_folder: Path, image_folder: Path, strange_folder: Path, tmp_path: Path
) -> None:
    mine = shutil.copytree(bundle_folder, tmp_path / "bundle")
    words = ["evaluate", mine, "--id", image_folder, "--ood", f"noise={strange_folder}"]
    run_cli(*words, "--save", "--scorers", "msp")
    assert set(load_bundle(mine).manifest.measures["sets"]["noise"]) == {"msp"}


def test_a_report_has_the_scorer_of_the_bundle_among_those_asked_for(
    bundle_folder: Path, image_folder: Path, strange_folder: Path, tmp_path: Path
) -> None:
    words = ["evaluate", bundle_folder, "--id", image_folder, "--ood", f"noise={strange_folder}"]
    run_cli(*words, "--out", tmp_path / "report", "--scorers", "msp,nap")
    assert set(json.loads((tmp_path / "report" / "measures.json").read_text())["mean"]) == {"msp", "nap", "nap-energy"}
    assert "nap-energy" in (tmp_path / "report" / "report.html").read_text()

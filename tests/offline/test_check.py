import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import tiny_bundle
from oodgate.bundle import Scorer, load_bundle
from oodgate.gate import Gate
from oodgate.offline.calibrate import CalibrationPlan, calibrate
from oodgate.offline.check import check
from oodgate.offline.dataset import list_images
from oodgate.offline.measures import fpr95
from oodgate.offline.predict import predict_paths


@pytest.fixture(scope="module")
def noise_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("noise")
    generator = np.random.default_rng(1)
    for number in range(40):
        pixels = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def test_the_check_says_what_the_gate_would_do(tmp_path: Path, image_folder: Path, noise_folder: Path) -> None:
    plan = CalibrationPlan(Scorer(name="nap-energy", w=0.4), device="cpu")
    calibrated = calibrate(tiny_bundle(tmp_path), list_images(image_folder), plan, lambda count: None)
    found = check(calibrated, {"noise": noise_folder}, "cpu", None, lambda count: None)["noise"]
    gate = Gate(calibrated.bundle, "cpu")
    strange, known = (predict_paths(gate, [folder], lambda count: None) for folder in (noise_folder, image_folder))
    assert found["images"] == 40
    assert found["rejected"] == 100 * np.mean([row["decision"] == "reject" for row in strange])
    scores = [np.array([row["score"] for row in rows]) for rows in (known, strange)]
    assert found["measures"]["nap-energy"]["fpr95"] == pytest.approx(fpr95(*scores))
    assert set(found["measures"]) == {"nap-energy", "energy", "nap"}


def test_a_check_changes_nothing_that_is_chosen(tmp_path: Path, image_folder: Path, noise_folder: Path) -> None:
    calibrations = []
    for name, options in (("without", []), ("with", ["--ood", f"noise={noise_folder}"])):
        tiny_bundle(tmp_path / name)
        command = ["calibrate", str(tmp_path / name), "--id", str(image_folder), "--device", "cpu", "--json", *options]
        run = subprocess.run([sys.executable, "-m", "oodgate.cli", *command], capture_output=True, check=True)
        assert set(json.loads(run.stdout)["check"]) == ({"noise"} if options else set())
        calibrations.append(load_bundle(tmp_path / name).calibration)
    assert calibrations[0] == calibrations[1]
    assert "On real out-of-distribution images" in (tmp_path / "with" / "report" / "calibration.md").read_text()

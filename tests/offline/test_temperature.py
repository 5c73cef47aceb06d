from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from conftest import calibrated, tiny_bundle
from oodgate.bundle import Scorer, load_bundle, write_bundle
from oodgate.gate import Gate
from oodgate.images.opening import HostOpener
from oodgate.offline.calibrate import CalibrationPlan, calibrate
from oodgate.offline.dataset import ImageFolder, list_images, read_images
from oodgate.offline.temperature import expected_calibration_error, fit_temperature


def labelled(logits, seed=1):
    """Labels drawn from the probabilities of logits (N, K)."""
    cumulated = softmax(logits, axis=1).cumsum(1)
    return (np.random.default_rng(seed).random((len(logits), 1)) > cumulated).sum(1).clip(max=logits.shape[1] - 1)


@settings(deadline=None, max_examples=10)
@given(st.floats(0.25, 5))
def test_the_temperature_that_spoiled_the_probabilities_is_found(spoiled):
    logits = np.random.default_rng(0).normal(0, 2, (20_000, 5)).astype(np.float32)
    found = fit_temperature(logits * spoiled, labelled(logits))
    assert found.value == pytest.approx(spoiled, rel=0.05)
    assert found.ece_after < 1.5


def test_calibration_error_is_the_gap_between_confidence_and_accuracy():
    logits = np.log(np.array([[0.9, 0.1]] * 10 + [[0.6, 0.4]] * 10, dtype=np.float32))
    labels = [0] * 7 + [1] * 3 + [0] * 6 + [1] * 4
    assert expected_calibration_error(logits, labels) == pytest.approx(100 * (0.2 * 10 + 0 * 10) / 20, abs=1e-4)


def test_perfect_and_certain_predictions_have_no_calibration_error():
    assert expected_calibration_error(np.eye(4, dtype=np.float32) * 1000, np.arange(4)) == 0


def test_probabilities_are_served_at_the_temperature_and_scores_are_not(tmp_path: Path, image_folder: Path):
    tiny_bundle(tmp_path)
    bundle = calibrated(tmp_path, image_folder)
    images = read_images(list_images(image_folder).paths[:5], HostOpener(bundle.manifest.preprocessing))
    plain = Gate(load_bundle(tmp_path), "cpu").judge(images)
    warmer = bundle.calibration.model_copy(update={"temperature": 2.0})
    manifest = bundle.manifest.model_copy(update={"calibration": warmer})
    write_bundle(tmp_path, type(bundle)(manifest, bundle.model, bundle.state))
    for before, after in zip(plain, Gate(load_bundle(tmp_path), "cpu").judge(images), strict=True):
        expected = np.sqrt(before.probabilities) / np.sqrt(before.probabilities).sum()
        np.testing.assert_allclose(after.probabilities, expected, rtol=1e-5)
        assert after.score == before.score


def test_calibration_on_labelled_images_fits_the_temperature(tmp_path: Path, image_folder: Path):
    bundle = tiny_bundle(tmp_path / "bundle")
    paths = list_images(image_folder).paths
    for number, path in enumerate(paths):
        folder = tmp_path / "labelled" / bundle.manifest.classes[number % 4]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / path.name).write_bytes(path.read_bytes())
    images = list_images(tmp_path / "labelled", bundle.manifest.classes)
    plan = CalibrationPlan(Scorer(name="nap-energy", w=0.4), device="cpu")
    fitted = calibrate(bundle, images, plan, lambda count: None)
    assert fitted.temperature is not None
    assert fitted.bundle.calibration.temperature == fitted.temperature.value
    assert fitted.temperature.ece_after < fitted.temperature.ece_before
    unlabelled = calibrate(bundle, ImageFolder(images.paths, None), plan, lambda count: None)
    assert unlabelled.temperature is None
    assert unlabelled.bundle.calibration.temperature == 1.0


@pytest.mark.parametrize(("images", "least"), [(59, 0.1), (5000, 0.05)])
def test_a_few_images_that_are_all_called_right_do_not_make_probabilities_certain(images: int, least: float) -> None:
    logits = np.random.default_rng(0).normal(0, 2, (images, 5)).astype(np.float32)
    found = fit_temperature(logits, logits.argmax(1))
    assert least < found.value < 1


def test_certain_and_right_logits_leave_the_temperature_at_1() -> None:
    logits = 20 * np.eye(5, dtype=np.float32)[np.arange(300) % 5]
    assert fit_temperature(logits, np.arange(300) % 5).value == pytest.approx(1, abs=0.01)

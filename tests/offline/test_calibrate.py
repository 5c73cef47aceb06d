from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import calibrated, encoded, random_picture, tiny_bundle
from oodgate.api.loading import open_model
from oodgate.bundle import Bundle, Scorer, load_bundle, write_bundle
from oodgate.errors import BundleError, CalibrationError, SetupError
from oodgate.gate import CALIBRATION_SCORES, Gate
from oodgate.offline.calibrate import CalibrationPlan, calibrate
from oodgate.offline.dataset import list_images
from oodgate.offline.predict import predict_paths
from oodgate.settings import Settings


def scores_of(folder: Path, images: Path) -> list[float]:
    """Every calibration image's score, as the gate gives it, ascending."""
    records = predict_paths(Gate(load_bundle(folder), "cpu"), [images], lambda count: None)
    return sorted(record["score"] for record in records)


@pytest.mark.parametrize(("kind", "rank"), [("pac", 5), ("marginal", 10)])
def test_the_threshold_is_the_order_statistic_of_its_guarantee(
    tmp_path: Path, image_folder: Path, kind: str, rank: int
) -> None:
    tiny_bundle(tmp_path)
    calibration = calibrated(tmp_path, image_folder, kind=kind).calibration
    assert calibration.guarantee.rank == rank
    assert calibration.guarantee.images == 200
    assert calibration.threshold == pytest.approx(scores_of(tmp_path, image_folder)[rank - 1], rel=1e-6)


def test_only_a_pac_guarantee_has_a_delta(tmp_path: Path, image_folder: Path) -> None:
    tiny_bundle(tmp_path)
    assert calibrated(tmp_path, image_folder).calibration.guarantee.delta == 0.05
    assert calibrated(tmp_path, image_folder, kind="marginal").calibration.guarantee.delta is None


def test_the_sorted_calibration_scores_are_in_the_bundle(bundle_folder: Path, image_folder: Path) -> None:
    stored = load_bundle(bundle_folder).state[CALIBRATION_SCORES]
    assert np.allclose(stored.numpy(), scores_of(bundle_folder, image_folder), rtol=1e-6)


def test_the_gate_rejects_the_share_that_lies_below_the_threshold(bundle_folder: Path, image_folder: Path) -> None:
    records = predict_paths(Gate(load_bundle(bundle_folder), "cpu"), [image_folder], lambda count: None)
    assert sum(record["decision"] == "reject" for record in records) == 4  # rank 5: four scores lie below


def test_p_values_of_the_calibration_images_are_their_ranks(bundle_folder: Path, image_folder: Path) -> None:
    records = predict_paths(Gate(load_bundle(bundle_folder), "cpu"), [image_folder], lambda count: None)
    found = sorted(record["p_value"] for record in records)
    assert np.allclose(found, np.arange(2, 202) / 201)


def test_energy_alone_needs_no_w(tmp_path: Path, image_folder: Path) -> None:
    tiny_bundle(tmp_path)
    calibration = calibrated(tmp_path, image_folder, scorer=Scorer(name="energy")).calibration
    assert calibration.scorer == Scorer(name="energy", w=None)


def test_an_unknown_scorer_is_answered_with_the_known_ones(tmp_path: Path, image_folder: Path) -> None:
    tiny_bundle(tmp_path)
    with pytest.raises(SetupError, match="nap-energy"):
        calibrated(tmp_path, image_folder, scorer=Scorer(name="oracle"))


def test_too_few_images_are_refused_with_the_number_needed(tmp_path: Path, image_folder: Path) -> None:
    for source in sorted(image_folder.iterdir())[:58]:
        (tmp_path / "few").mkdir(exist_ok=True)
        (tmp_path / "few" / source.name).write_bytes(source.read_bytes())
    tiny_bundle(tmp_path / "bundle")
    with pytest.raises(CalibrationError, match="needs at least 59 images"):
        calibrated(tmp_path / "bundle", tmp_path / "few")


def test_a_bundle_is_served_in_another_number_format_only_after_its_check(tmp_path: Path, image_folder: Path) -> None:
    tiny_bundle(tmp_path)
    calibrated(tmp_path, image_folder)
    with pytest.raises(BundleError, match="--check-precision bfloat16"):
        Gate(load_bundle(tmp_path), "cpu", "bfloat16")
    check = calibrated(tmp_path, image_folder, check_precision="bfloat16").calibration.precision_checks["bfloat16"]
    assert 0 < check.largest_difference < 0.1
    assert check.changed_decisions <= 0.01
    assert Gate(load_bundle(tmp_path), "cpu", "bfloat16").model.precision == "bfloat16"


def test_images_are_decoded_on_the_device_only_after_its_check(tmp_path: Path, image_folder: Path) -> None:
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for path in image_folder.iterdir():
        Image.open(path).convert("RGB").save(photographs / f"{path.stem}.jpg", quality=95)
    tiny_bundle(tmp_path / "tiny")
    told = Settings(bundle=tmp_path / "tiny", device="cpu", decoding="device", max_batch=4)
    calibrated(tmp_path / "tiny", photographs)
    assert "--check-decoding" in str(open_model(told.bundle, told).reason)
    check = calibrated(tmp_path / "tiny", photographs, check_decoding=True).calibration.decoding_checks["cpu"]
    assert check.largest_difference < 0.1
    assert check.changed_decisions <= 0.01
    assert open_model(told.bundle, told).gate


def test_decoding_is_not_called_alike_where_the_device_decodes_next_to_nothing(
    tmp_path: Path, image_folder: Path
) -> None:
    tiny_bundle(tmp_path / "tiny")
    with pytest.raises(CalibrationError, match=r"0 of the 200 images are plain JPEG files, .* needs at least 100"):
        calibrated(tmp_path / "tiny", image_folder, check_decoding=True)


def test_a_bundle_can_be_calibrated_in_half_precision(tmp_path: Path, image_folder: Path) -> None:
    tiny_bundle(tmp_path)
    assert calibrated(tmp_path, image_folder, precision="bfloat16").calibration.precision == "bfloat16"
    with pytest.raises(BundleError, match="calibrated in bfloat16"):
        Gate(load_bundle(tmp_path), "cpu", "float32")


def test_an_image_without_a_score_is_named(tmp_path: Path, image_folder: Path) -> None:
    class Broken(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = torch.nn.Linear(8, 4)

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            activation = images.abs().mean((1, 2, 3), keepdim=True).expand(-1, 8, 4, 4) * torch.inf
            return self.fc(activation.mean((2, 3))), activation

    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "bright.png").write_bytes(encoded(random_picture(0)))
    tiny_bundle(tmp_path / "bundle", Broken())
    with pytest.raises(CalibrationError, match=r"bright\.png is not a number"):
        calibrated(tmp_path / "bundle", tmp_path / "one")


@pytest.mark.parametrize(("images", "kinds"), [(19, {"marginal"}), (59, {"marginal", "pac"})])
def test_a_marginal_threshold_needs_no_more_images_than_its_own(
    tmp_path: Path, image_folder: Path, images: int, kinds: set[str]
) -> None:
    plan = CalibrationPlan(Scorer(name="energy"), kind="marginal", device="cpu")
    known = list_images(image_folder).take(range(images))
    found = calibrate(tiny_bundle(tmp_path), known, plan, lambda count: None)
    assert found.bundle.calibration.threshold == found.thresholds["marginal"].value
    assert set(found.thresholds) == kinds
    with pytest.raises(CalibrationError, match=r"18 calibration images are too few: alpha 0.05 needs at least 19"):
        calibrate(tiny_bundle(tmp_path), known.take(range(18)), plan, lambda count: None)


def test_measures_of_another_threshold_do_not_stay(tmp_path: Path, image_folder: Path) -> None:
    bundle = tiny_bundle(tmp_path)
    manifest = bundle.manifest.model_copy(update={"measures": {"accepted": {"id": 97.0}}})
    write_bundle(tmp_path, Bundle(manifest, bundle.model, bundle.state))
    assert calibrated(tmp_path, image_folder).manifest.measures == {}

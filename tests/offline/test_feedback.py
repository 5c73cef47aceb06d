from pathlib import Path

import numpy as np
import pytest

from conftest import tiny_bundle
from oodgate.bundle import Scorer
from oodgate.errors import CalibrationError
from oodgate.offline.calibrate import CalibrationPlan, calibrate
from oodgate.offline.dataset import list_images
from oodgate.offline.feedback import added_images
from oodgate.quarantine.archive import open_archive
from quarantined import ROOMY, png, record

CLASSES = ("ant", "bee", "cat", "dog")


def quarantine(folder: Path, rejected: int, accepted: int, share: float) -> Path:
    """A quarantine whose images were all labelled in-distribution."""
    archive = open_archive(str(folder), create=True)
    for seed in range(rejected + accepted):
        decision, kept_share = ("reject", 1.0) if seed < rejected else ("accept", share)
        assert archive.keep(png(seed), record(1000.0 + seed, decision=decision), kept_share, ROOMY)
    for entry in archive.index.entries():
        archive.label(entry, "in", "cat")
    archive.close()
    return folder


def test_a_folder_of_images_is_added_whole(image_folder: Path) -> None:
    assert len(added_images(image_folder, CLASSES, 0)) == 200


def test_rejected_images_are_thinned_to_the_share_of_the_accepted(tmp_path: Path) -> None:
    folder = quarantine(tmp_path / "q", rejected=200, accepted=20, share=0.1)
    added = added_images(folder, CLASSES, 0)
    assert 20 + 8 <= len(added) <= 20 + 36  # 20 of 200 are expected; four deviations
    assert added.labels == (2,) * len(added)
    assert added == added_images(folder, CLASSES, 0)


def test_rejected_images_alone_are_refused(tmp_path: Path) -> None:
    folder = quarantine(tmp_path / "q", rejected=5, accepted=0, share=0.1)
    with pytest.raises(CalibrationError, match="OODGATE_QUARANTINE_ACCEPTED_SHARE"):
        added_images(folder, CLASSES, 0)


def test_images_labelled_as_no_class_of_the_bundle_are_named(tmp_path: Path) -> None:
    folder = quarantine(tmp_path / "q", rejected=20, accepted=20, share=0.9)
    archive = open_archive(str(folder))
    for entry in archive.index.entries()[:3]:
        archive.label(entry, "in", "katze")
    archive.close()
    with pytest.raises(CalibrationError, match=r"3 images of the quarantine, such as \w+.png, are labelled 'katze'"):
        added_images(folder, (*CLASSES, "katz"), 0)


def test_class_bounds_come_with_the_calibration(tmp_path: Path, image_folder: Path) -> None:
    plan = CalibrationPlan(Scorer(name="nap-energy", w=0.4), device="cpu")
    calibrated = calibrate(tiny_bundle(tmp_path), list_images(image_folder), plan, lambda count: None)
    bounds = calibrated.bundle.calibration.class_alphas
    counts = np.bincount(calibrated.terms.predicted.numpy(), minlength=4)
    assert bounds.keys() == ({int(counts.argmax())} if counts.max() >= 200 else {-1})
    assert all(0.02 < bound < 0.08 for bound in bounds.values())  # 4 of 200 are rejected

"""A calibrated bundle on real out-of-distribution images: a look at the choice, which never shapes it."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from oodgate.offline.calibrate import COMPARED, Calibrated
from oodgate.offline.dataset import list_images
from oodgate.offline.features import Extractor, Progress
from oodgate.offline.measures import measure
from oodgate.settings import Device


def check(
    calibrated: Calibrated, folders: Mapping[str, Path], device: Device, cache: Path | None, progress: Progress
) -> dict[str, dict[str, Any]]:
    """By set the share that the threshold rejects and the measures of the own scorer, Energy and NAP, in percent."""
    bundle = calibrated.bundle
    own, threshold = bundle.calibration.scorer, bundle.calibration.threshold
    names = dict.fromkeys((own.name, *COMPARED))
    extractor = Extractor(bundle, names, own.parameters, device, bundle.calibration.precision, cache)
    found: dict[str, dict[str, Any]] = {}
    for name, folder in folders.items():
        strange = extractor.of_files(list_images(folder).paths, progress)
        scores = {scorer: strange.scores(scorer, own.w, bundle.state) for scorer in names}
        known = {scorer: calibrated.terms.scores(scorer, own.w, bundle.state) for scorer in names}
        found[name] = {
            "images": len(strange),
            "rejected": 100 * float((scores[own.name] < threshold).mean()),
            "measures": {scorer: asdict(measure(known[scorer], scores[scorer])) for scorer in names},
        }
    return found

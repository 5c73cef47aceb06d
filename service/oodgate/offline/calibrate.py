"""In-distribution images -> threshold, p-values and guarantee, written into the bundle."""

from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from oodgate.bundle import Agreement, Bundle, Calibration, Guarantee, Scorer
from oodgate.conformal import Threshold, class_alphas, marginal_threshold, pac_threshold
from oodgate.errors import CalibrationError
from oodgate.gate import CALIBRATION_SCORES
from oodgate.images.plain import plain_file
from oodgate.images.preprocess import Preprocessing
from oodgate.model import device_for
from oodgate.offline.dataset import ImageFolder, file_picture
from oodgate.offline.features import Extractor, ImageTerms, Progress
from oodgate.offline.temperature import Temperature, fit_temperature
from oodgate.settings import Decoding, Device, Precision

_FEWEST_DECODED = 100  # one of them is the share of changed decisions that is allowed

COMPARED = ("energy", "nap")
"""Scorers whose terms are kept beside the own one's, to be judged on real out-of-distribution images."""


@dataclass(frozen=True)
class CalibrationPlan:
    """What to calibrate and what the threshold shall promise."""

    scorer: Scorer
    kind: Literal["pac", "marginal"] = "pac"
    alpha: float = 0.05
    delta: float = 0.05
    device: Device = "auto"
    precision: Precision = "float32"
    decoding: Decoding = "host"
    check_precision: Precision | None = None
    check_decoding: bool = False
    cache: Path | None = None


@dataclass(frozen=True)
class Calibrated:
    """The calibrated bundle, and the numbers that a person wants to see."""

    bundle: Bundle
    thresholds: dict[str, Threshold]  # by kind of guarantee
    terms: ImageTerms  # of the calibration images
    temperature: Temperature | None  # where the images have labels


def calibrate(bundle: Bundle, folder: ImageFolder, plan: CalibrationPlan, progress: Progress) -> Calibrated:
    """Score the folder, choose threshold and temperature, and return the bundle that holds them.

    Raises CalibrationError where the images are too few for the guarantee or a score is not a number.
    """
    scores, terms = _score(bundle, folder, plan, progress)
    ordered = np.sort(scores).astype(np.float64)
    thresholds = _thresholds(ordered, plan)
    threshold = thresholds[plan.kind]

    def agreement(images: NDArray[np.bool_], **change: Any) -> Agreement:
        others, _ = _score(bundle, folder, replace(plan, **change), progress)
        return _compare(scores[images], others[images], threshold.value)

    all_images = np.ones(len(folder), dtype=bool)
    decoded = _decoded_on_device(folder, bundle.manifest.preprocessing) if plan.check_decoding else all_images
    other, decoder = plan.check_precision, device_for(bundle, plan.device).type
    temperature = _temperature(folder, terms)
    calibration = Calibration(
        scorer=plan.scorer,
        threshold=threshold.value,
        guarantee=Guarantee(
            kind=plan.kind,
            alpha=plan.alpha,
            delta=plan.delta if plan.kind == "pac" else None,
            images=len(folder),
            rank=threshold.rank,
        ),
        temperature=temperature.value if temperature else 1.0,
        class_alphas=class_alphas(
            scores < threshold.value, terms.predicted.numpy(), len(bundle.manifest.classes), plan.delta
        ),
        precision=plan.precision,
        precision_checks={other: agreement(all_images, precision=other)} if other else {},
        decoding_checks={decoder: agreement(decoded, decoding="device")} if plan.check_decoding else {},
    )
    # What was measured of another threshold or score would be said of this one.
    manifest = bundle.manifest.model_copy(update={"calibration": calibration, "measures": {}})
    state = {**bundle.state, CALIBRATION_SCORES: torch.from_numpy(np.sort(scores))}
    return Calibrated(Bundle(manifest, bundle.model, state), thresholds, terms, temperature)


def _thresholds(ordered: NDArray[np.float64], plan: CalibrationPlan) -> dict[str, Threshold]:
    """The threshold that is asked for, and the other kind's where there are images enough for it."""
    kinds = {
        "pac": partial(pac_threshold, ordered, plan.alpha, plan.delta),
        "marginal": partial(marginal_threshold, ordered, plan.alpha),
    }
    thresholds: dict[str, Threshold] = {plan.kind: kinds.pop(plan.kind)()}
    for kind, other in kinds.items():
        with suppress(CalibrationError):
            thresholds[kind] = other()
    return thresholds


def _score(
    bundle: Bundle, folder: ImageFolder, plan: CalibrationPlan, progress: Progress
) -> tuple[NDArray[np.float32], ImageTerms]:
    scorer = plan.scorer
    extractor = Extractor(
        bundle,
        {scorer.name, *COMPARED},
        scorer.parameters,
        plan.device,
        plan.precision,
        plan.cache,
        keeps_logits=folder.labels is not None,
        decoding=plan.decoding,
    )
    terms = extractor.of_files(folder.paths, progress)
    scores = terms.scores(scorer.name, scorer.w, bundle.state)
    if not np.isfinite(scores).all():
        broken = folder.paths[int(np.argmin(np.isfinite(scores)))]
        raise CalibrationError(f"the score of {broken} is not a number; check the network and this image")
    return scores, terms


def _temperature(folder: ImageFolder, terms: ImageTerms) -> Temperature | None:
    if folder.labels is None or terms.logits is None:
        return None
    return fit_temperature(terms.logits.numpy(), folder.labels)


def _decoded_on_device(folder: ImageFolder, preprocessing: Preprocessing) -> NDArray[np.bool_]:
    """Which images (N,) a device decodes; raises CalibrationError where they are too few to tell a share of them."""
    found = np.array([plain_file(file_picture(path), preprocessing) is not None for path in folder.paths])
    if found.sum() < _FEWEST_DECODED:
        raise CalibrationError(
            f"{found.sum()} of the {len(folder)} images are plain JPEG files, which alone are decoded on a device; "
            f"--check-decoding needs at least {_FEWEST_DECODED} of them"
        )
    return found


def _compare(scores: NDArray[np.float32], others: NDArray[np.float32], threshold: float) -> Agreement:
    return Agreement(
        largest_difference=float(np.abs(scores - others).max()),
        changed_decisions=float(((scores >= threshold) != (others >= threshold)).mean()),
    )

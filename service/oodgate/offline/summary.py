"""An evaluation -> what its report shows: scores and p-values by image, channels, sensitivity to w, facts."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from oodgate.bundle import Bundle
from oodgate.conformal import p_values
from oodgate.gate import CALIBRATION_SCORES
from oodgate.images.opening import HostOpener
from oodgate.model import Model
from oodgate.offline.choice import GRID
from oodgate.offline.dataset import ImageFolder, read_batches
from oodgate.offline.evaluate import KNOWN, Evaluation
from oodgate.offline.features import BATCH, ImageTerms
from oodgate.offline.measures import fpr95
from oodgate.offline.report import ReportData, ReportSet
from oodgate.scores.registry import needs_w

_CHANNEL_IMAGES = 50
_MOST_POINTS = 5000
_LEAST_MEAN = 0.1
"""Channels with a smaller mean are left out of the scatter, as in the paper's Figure 1, unless all are."""


def summarise(bundle: Bundle, model: Model, evaluation: Evaluation) -> ReportData:
    """Everything that `report.py` shows of an evaluation."""
    manifest, calibration = bundle.manifest, bundle.calibration
    groups = {name: _group(bundle, name, evaluation) for name in evaluation.terms}
    return ReportData(
        name=manifest.name,
        version=manifest.version,
        facts=_facts(bundle),
        known=groups[KNOWN],
        strange=tuple(group for name, group in groups.items() if name != KNOWN),
        threshold=calibration.threshold,
        alpha=calibration.guarantee.alpha,
        scorer=calibration.scorer.name,
        w=calibration.scorer.w,
        measures=evaluation.sets,
        mean=evaluation.mean,
        accuracy=evaluation.accuracy,
        accepted=evaluation.accepted,
        document=evaluation.as_dict(),
        channels={name: _channels(bundle, model, images) for name, images in evaluation.images.items()},
        sensitivity=_sensitivity(bundle, evaluation.terms),
        families=manifest.measures.get("families"),
        warnings=_warnings(evaluation),
    )


def _group(bundle: Bundle, name: str, evaluation: Evaluation) -> ReportSet:
    terms, scorer = evaluation.terms[name], bundle.calibration.scorer
    scores = terms.scores(scorer.name, scorer.w, bundle.state).astype(np.float64)
    return ReportSet(
        name=name,
        scores=scores,
        p_values=p_values(scores, bundle.state[CALIBRATION_SCORES].double().numpy()),
        predicted=[bundle.manifest.classes[index] for index in terms.predicted.tolist()],
        paths=evaluation.images[name].paths,
    )


def _channels(bundle: Bundle, model: Model, images: ImageFolder) -> NDArray[np.float64]:
    """Mean and maximum (M, 2) of the active channels of a few images."""
    pixels = torch.cat(
        list(read_batches(images.paths[:_CHANNEL_IMAGES], HostOpener(bundle.manifest.preprocessing), BATCH))
    )
    forward = model.run(pixels)
    pairs = torch.stack([forward.features.flatten(), forward.activation.amax((2, 3)).flatten()], 1).double().cpu()
    active = pairs[pairs[:, 0] > _LEAST_MEAN]
    points: NDArray[np.float64] = (active if len(active) else pairs).numpy()
    return points[:: 1 + len(points) // _MOST_POINTS]


def _sensitivity(
    bundle: Bundle, terms: Mapping[str, ImageTerms]
) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]] | None:
    """FPR95 of the bundle's scorer over w by strange set, where its scorer has a w."""
    scorer = bundle.calibration.scorer.name
    if not needs_w(scorer):
        return None
    curves: dict[str, list[float]] = {name: [] for name in terms if name != KNOWN}
    for w in GRID:
        known = terms[KNOWN].scores(scorer, float(w), bundle.state)
        for name, curve in curves.items():
            curve.append(fpr95(known, terms[name].scores(scorer, float(w), bundle.state)))
    return GRID, {name: np.array(curve) for name, curve in curves.items()}


def _facts(bundle: Bundle) -> dict[str, str]:
    manifest, guarantee = bundle.manifest, bundle.calibration.guarantee
    return {
        "classes": str(len(manifest.classes)),
        "input": f"{manifest.preprocessing.crop[0]} x {manifest.preprocessing.crop[1]} pixels",
        "activation": " x ".join(str(side) for side in manifest.outputs.activation),
        "guarantee": f"{guarantee.kind}, alpha {guarantee.alpha:g}, {guarantee.images} images",
        "number format": bundle.calibration.precision,
    }


def _warnings(evaluation: Evaluation) -> tuple[str, ...]:
    """Sets on which NAP alone ranks worse than chance, and an ID share far from what was calibrated."""
    inverted = [name for name, rows in evaluation.sets.items() if "nap" in rows and rows["nap"].auroc < 50]
    return (
        (f"NAP is inverted on {', '.join(inverted)}: it takes these images for more in-distribution than yours.",)
        if inverted
        else ()
    )

"""Batch of images -> forward -> scores -> p-values -> decisions: the one class that both paths share."""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from oodgate.bundle import Bundle, Calibration
from oodgate.conformal import p_values
from oodgate.errors import BundleError, InferenceFailed
from oodgate.model import Model
from oodgate.pixels import Pixels, stack
from oodgate.scores.registry import State, clamped_terms, combine_terms, compute_terms, terms_of
from oodgate.settings import Device, Precision
from oodgate.tuning import Tuning

CALIBRATION_SCORES = "calibration.scores"
"""Name of the sorted calibration scores among the bundle's tensors."""

_MOST_CHANGED_DECISIONS = 0.01


@dataclass(frozen=True, slots=True)
class Verdict:
    """Everything known about one image."""

    probabilities: NDArray[np.float32]  # (K,)
    ranking: NDArray[np.intp]  # (K,), classes from the most probable to the least
    score: float
    p_value: float
    accepted: bool
    terms: dict[str, float]
    clamped: bool
    forward_ms: float
    score_ms: float

    @property
    def predicted(self) -> int:
        """The most probable class."""
        return int(self.ranking[0])


@dataclass(frozen=True)
class BatchScores:
    """Numbers of a batch on the host, one row an image."""

    probabilities: NDArray[np.float32]  # (N, K)
    rankings: NDArray[np.intp]  # (N, K)
    scores: NDArray[np.float32]  # (N,)
    terms: dict[str, NDArray[np.float32]]  # (N,) each
    clamped: NDArray[np.bool_]  # (N,)
    forward_ms: float
    score_ms: float


class Gate:
    """A calibrated bundle at work on a device."""

    def __init__(self, bundle: Bundle, device: Device = "auto", precision: Precision = "float32") -> None:
        """Load the network and judge a black image; raises SetupError where the bundle is not fit to decide."""
        self.manifest = bundle.manifest
        self.calibration = bundle.calibration
        check_precision(self.manifest.name, self.calibration, precision)
        self.model = Model(bundle, device, precision)
        self.state = {name: tensor.to(self.model.device) for name, tensor in bundle.state.items()}
        self.calibration_scores = _calibration_scores(bundle)
        self.tuning = Tuning()
        height, width = bundle.manifest.preprocessing.crop
        self.judge([np.zeros((height, width, 3), dtype=np.uint8)])  # a scorer that lacks something says so now

    def judge(self, images: Sequence[Pixels]) -> list[Verdict | InferenceFailed]:
        """Judge a batch; an image whose score is not a number gets an error in its place, its neighbours do not."""
        batch = self.score(stack(images, pinned=self.model.device.type == "cuda"))
        chances = p_values(batch.scores, self.calibration_scores)
        return [self._verdict(batch, float(chances[row]), row) for row in range(len(images))]

    def score(self, pixels: Tensor) -> BatchScores:
        """Forward and score uint8 pixels (N, H, W, 3)."""
        return score_batch(self.model, self.state, self.calibration, pixels)

    def _verdict(self, batch: BatchScores, p_value: float, row: int) -> Verdict | InferenceFailed:
        score = float(batch.scores[row])
        if not (np.isfinite(score) and np.isfinite(batch.probabilities[row]).all()):
            return InferenceFailed("the network's answer for this image is not a number; nothing can be said about it")
        return Verdict(
            probabilities=batch.probabilities[row],
            ranking=batch.rankings[row],
            score=score,
            p_value=p_value,
            accepted=score >= self.calibration.threshold,
            terms={name: float(values[row]) for name, values in batch.terms.items()},
            clamped=bool(batch.clamped[row]),
            forward_ms=batch.forward_ms,
            score_ms=batch.score_ms,
        )


def score_batch(model: Model, state: State, calibration: Calibration, pixels: Tensor) -> BatchScores:
    """Forward and score uint8 pixels (N, H, W, 3); one copy brings all numbers to the host."""
    scorer, start = calibration.scorer, perf_counter()
    forward = model.run(pixels)
    model.synchronize()
    forwarded = perf_counter()
    with torch.inference_mode():
        terms = compute_terms(terms_of(scorer.name), scorer.parameters, forward, state)
        score, clamped = combine_terms(scorer.name, scorer.w, terms, state), clamped_terms(scorer.name, terms)
        columns = torch.stack([score, clamped.float(), *terms.values()], 1)
        table = (
            torch.cat([columns, (forward.logits / calibration.temperature).softmax(1)], 1).cpu().numpy()
        )  # (N, 2 + terms + K)
        probabilities = table[:, 2 + len(terms) :]
    return BatchScores(
        probabilities=probabilities,
        rankings=np.argsort(-probabilities, axis=1, kind="stable"),
        scores=table[:, 0],
        terms={name: table[:, 2 + column] for column, name in enumerate(terms)},
        clamped=table[:, 1] > 0,
        forward_ms=1000 * (forwarded - start),
        score_ms=1000 * (perf_counter() - forwarded),
    )


def _calibration_scores(bundle: Bundle) -> NDArray[np.float64]:
    if CALIBRATION_SCORES not in bundle.state:
        raise BundleError(
            f"bundle '{bundle.manifest.name}' has a threshold and no calibration scores; run `oodgate calibrate` on it"
        )
    scores: NDArray[np.float64] = bundle.state[CALIBRATION_SCORES].double().numpy()
    return scores


def check_precision(name: str, calibration: Calibration, precision: Precision) -> None:
    """Raise BundleError where the threshold was not calibrated or checked in this number format."""
    if precision == calibration.precision:
        return
    check = calibration.precision_checks.get(precision)
    if check is None:
        raise BundleError(
            f"bundle '{name}' was calibrated in {calibration.precision} and not checked in {precision}; run "
            f"`oodgate calibrate` with --check-precision {precision}, or serve it in {calibration.precision}"
        )
    if check.changed_decisions > _MOST_CHANGED_DECISIONS:
        raise BundleError(
            f"in {precision} bundle '{name}' decides {check.changed_decisions:.1%} of the calibration images "
            f"otherwise, more than {_MOST_CHANGED_DECISIONS:.0%}; serve it in {calibration.precision} or calibrate it "
            f"in {precision}"
        )


def check_decoding(name: str, calibration: Calibration, device: torch.device) -> None:
    """Raise BundleError where the threshold was not checked with images that such a device decodes."""
    check = calibration.decoding_checks.get("cuda" if device.type == "cuda" else "cpu")
    if check is None:
        raise BundleError(
            f"bundle '{name}' was not checked with images decoded on {device.type}; run `oodgate calibrate` with "
            "--check-decoding on such a device, or decode on the host"
        )
    if check.changed_decisions > _MOST_CHANGED_DECISIONS:
        raise BundleError(
            f"with images decoded on {device.type} bundle '{name}' decides {check.changed_decisions:.1%} of the "
            f"calibration images otherwise, more than {_MOST_CHANGED_DECISIONS:.0%}; decode on the host"
        )

"""Batch of images -> forward -> scores -> p-values -> decisions: the one class that both paths share."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from oodgate.bundle import Bundle, Calibration
from oodgate.conformal import p_values
from oodgate.errors import BundleError, InferenceFailed, last_line
from oodgate.model import Model, is_out_of_memory
from oodgate.pixels import Pixels, stack
from oodgate.score_table import ScoreTable
from oodgate.settings import Device, Precision
from oodgate.tuning import Tuning

CALIBRATION_SCORES = "calibration.scores"
"""Name of the sorted calibration scores among the bundle's tensors."""

_MOST_CHANGED_DECISIONS = 0.01


@dataclass(frozen=True, slots=True)
class Verdict:
    """Everything known about one image."""

    probabilities: NDArray[np.float32]  # (K,)
    ranking: NDArray[np.int32]  # (K,), classes from the most probable to the least
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
    rankings: NDArray[np.int32]  # (N, K)
    scores: NDArray[np.float32]  # (N,)
    terms: dict[str, NDArray[np.float32]]  # (N,) each
    clamped: NDArray[np.bool_]  # (N,)
    forward_ms: float
    score_ms: float

    def verdicts(self, p_values: NDArray[np.float64], threshold: float) -> Iterator[Verdict]:
        """One for each image."""
        # Columns become lists at once: a number that is taken out of an array alone costs ten times as much.
        names, terms = list(self.terms), zip(*(values.tolist() for values in self.terms.values()), strict=True)
        numbers = (self.scores.tolist(), p_values.tolist(), terms, self.clamped.tolist())
        rows = zip(self.probabilities, self.rankings, *numbers, strict=True)
        for probabilities, ranking, score, p_value, own_terms, clamped in rows:
            yield Verdict(
                probabilities=probabilities,
                ranking=ranking,
                score=score,
                p_value=p_value,
                accepted=score >= threshold,
                terms=dict(zip(names, own_terms, strict=True)),
                clamped=clamped,
                forward_ms=self.forward_ms,
                score_ms=self.score_ms,
            )


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
        self._table = ScoreTable(self.calibration, self.state)
        self._judge_black()
        if self.model.device.type == "cpu":
            self._table.record(self.model.run(self.model.noise(2)))

    def judge(self, images: Sequence[Pixels]) -> list[Verdict | InferenceFailed]:
        """Judge a batch; an image whose score is not a number gets an error in its place, its neighbours do not."""
        batch = self.score(stack(images, pinned=self.model.device.type == "cuda"))
        chances = p_values(batch.scores, self.calibration_scores)
        finite = np.isfinite(batch.scores) & np.isfinite(batch.probabilities).all(1)
        verdicts = batch.verdicts(chances, self.calibration.threshold)
        return [verdict if sound else _not_a_number() for verdict, sound in zip(verdicts, finite, strict=True)]

    def _judge_black(self) -> None:
        """Let a scorer that lacks something say so now."""
        height, width = self.manifest.preprocessing.crop
        try:
            self.judge([np.zeros((height, width, 3), dtype=np.uint8)])
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            raise BundleError(
                f"the tensors of bundle '{self.manifest.name}' do not fit its scorer '{self.calibration.scorer.name}' "
                f"({last_line(error)}); export and calibrate the bundle again"
            ) from error

    def score(self, pixels: Tensor) -> BatchScores:
        """Forward and score uint8 pixels (N, H, W, 3)."""
        start = perf_counter()
        forward = self.model.run(pixels)
        self.model.synchronize()
        forwarded = perf_counter()
        table, rankings = (answer.cpu().numpy() for answer in self._table.of(forward))
        names = self._table.terms
        return BatchScores(
            probabilities=table[:, 2 + len(names) :],
            rankings=rankings,
            scores=table[:, 0],
            terms={name: table[:, 2 + column] for column, name in enumerate(names)},
            clamped=table[:, 1] > 0,
            forward_ms=1000 * (forwarded - start),
            score_ms=1000 * (perf_counter() - forwarded),
        )


def _not_a_number() -> InferenceFailed:
    return InferenceFailed("the network's answer for this image is not a number; nothing can be said about it")


def _calibration_scores(bundle: Bundle) -> NDArray[np.float64]:
    if CALIBRATION_SCORES not in bundle.state:
        raise BundleError(
            f"bundle '{bundle.manifest.name}' has a threshold and no calibration scores; run `oodgate calibrate` on it"
        )
    scores: NDArray[np.float64] = bundle.state[CALIBRATION_SCORES].double().numpy()
    if scores.shape != (bundle.calibration.guarantee.images,) or not (np.diff(scores, prepend=-np.inf) >= 0).all():
        raise BundleError(
            f"the calibration scores of bundle '{bundle.manifest.name}' are not those of its "
            f"{bundle.calibration.guarantee.images} calibration images, ascending; run `oodgate calibrate` on it"
        )
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

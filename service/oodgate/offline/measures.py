"""How well a score separates: FPR95, AUROC, AUPR and accuracy, in percent.

In-distribution is the positive class, as in the NAP paper. OpenOOD 1.5 and later takes out-of-distribution as
positive, which gives another FPR95 and AUPR for the same scores.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import average_precision_score, roc_auc_score


@dataclass(frozen=True)
class Measures:
    """One scorer on one out-of-distribution set, in percent."""

    fpr95: float
    auroc: float
    aupr: float


def measure(id_scores: NDArray[np.floating], ood_scores: NDArray[np.floating]) -> Measures:
    """FPR95, AUROC and AUPR of scores that are higher for in-distribution images."""
    return Measures(
        fpr95=fpr95(id_scores, ood_scores),
        auroc=auroc(id_scores, ood_scores),
        aupr=100 * float(average_precision_score(*_positives(id_scores, ood_scores))),
    )


def auroc(id_scores: NDArray[np.floating], ood_scores: NDArray[np.floating]) -> float:
    """Share of pairs of an in- and an out-of-distribution image whose scores are in the right order."""
    return 100 * float(roc_auc_score(*_positives(id_scores, ood_scores)))


def fpr95(id_scores: NDArray[np.floating], ood_scores: NDArray[np.floating]) -> float:
    """Share of out-of-distribution images that pass at 95 %."""
    return 100 * float(passes_at_95(id_scores, ood_scores).mean())


def passes_at_95(id_scores: NDArray[np.floating], ood_scores: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Which out-of-distribution images (M,) lie at or above the threshold that keeps 95 % of in-distribution."""
    rank = int(np.floor(0.05 * len(id_scores) + 1e-9))
    passed: NDArray[np.bool_] = ood_scores >= np.partition(id_scores, rank)[rank]
    return passed


def accuracy(predicted: NDArray[np.int64], labels: ArrayLike) -> float:
    """Share of images whose predicted class is their label."""
    return 100 * float((predicted == np.asarray(labels)).mean())


def mean_measures(rows: list[Measures]) -> Measures:
    """The average over sets."""
    fpr, auroc, aupr = np.mean([(row.fpr95, row.auroc, row.aupr) for row in rows], axis=0)
    return Measures(float(fpr), float(auroc), float(aupr))


def _positives(
    id_scores: NDArray[np.floating], ood_scores: NDArray[np.floating]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    positive = np.concatenate([np.ones(len(id_scores), dtype=np.int64), np.zeros(len(ood_scores), dtype=np.int64)])
    return positive, np.concatenate([id_scores, ood_scores]).astype(np.float64)

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from training import CLASSIFIER, STATE, familiar, statistics_of

from oodgate.scores.fdbd import fdbd, fit_fdbd
from oodgate.scores.forward import Forward

WEIGHT = CLASSIFIER["classifier.weight"]


def reference_fdbd(logits: Tensor, features: Tensor, mean: list[float]) -> list[float]:
    scores = []
    weight = WEIGHT.tolist()
    for row, feature in zip(logits.tolist(), features.tolist(), strict=True):
        best = row.index(max(row))
        others = [c for c in range(len(row)) if c != best]
        distances = [(row[best] - row[c]) / math.dist(weight[best], weight[c]) for c in others]
        scores.append(sum(distances) / len(distances) / math.dist(feature, mean))
    return scores


def score(forward: Forward) -> Tensor:
    return fdbd(forward.logits, forward.features, STATE["fdbd.mean"], STATE["fdbd.inverse_distances"])


def test_is_the_mean_distance_to_the_boundaries_by_the_distance_to_the_mean() -> None:
    forward = familiar(12, seed=50)
    expected = reference_fdbd(forward.logits, forward.features, statistics_of().mean.tolist())
    np.testing.assert_allclose(score(forward).numpy(), expected, rtol=1e-4)


def test_fit_keeps_the_mean_and_the_distances_between_weights() -> None:
    fitted = fit_fdbd(statistics_of(), WEIGHT)
    torch.testing.assert_close(fitted["fdbd.mean"], statistics_of().mean.float())
    rows = WEIGHT.tolist()
    for a, b in ((0, 1), (3, 2)):
        assert fitted["fdbd.inverse_distances"][a, b].item() == pytest.approx(1 / math.dist(rows[a], rows[b]))
    assert fitted["fdbd.inverse_distances"].diagonal().tolist() == [0] * len(rows)


def test_classes_with_equal_weights_have_no_boundary() -> None:
    twins = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    inverse = fit_fdbd(statistics_of(), twins)["fdbd.inverse_distances"]
    assert inverse[0, 1] == 0
    logits, features = torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([[3.0, 4.0]])
    assert fdbd(logits, features, torch.zeros(2), inverse).item() == pytest.approx(1 / math.sqrt(2) / 2 / 5)


def test_undecided_image_scores_0() -> None:
    forward = familiar(3, seed=51)
    undecided = Forward(torch.full_like(forward.logits, 7.0), forward.activation)
    assert score(undecided).tolist() == [0, 0, 0]


def test_features_at_the_mean_do_not_divide_by_0() -> None:
    logits = torch.tensor([[2.0, 1.0]])
    inverse = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    assert fdbd(logits, torch.ones(1, 3), torch.ones(3), inverse).item() == pytest.approx(1e6)

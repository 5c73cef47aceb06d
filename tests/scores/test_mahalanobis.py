import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from training import CHANNELS, CLASSES, features_of, seeded

from oodgate.scores.forward import unit
from oodgate.scores.mahalanobis import fit_mahalanobis, mahalanobis, mahalanobis_positive
from oodgate.scores.statistics import Statistics, StatisticsAccumulator


def accumulated(features: Tensor, classes: Tensor, count: int) -> Statistics:
    accumulator = StatisticsAccumulator(features.shape[1], count, bank_size=1)
    accumulator.add(features, classes)
    return accumulator.finish()


def score(features: Tensor, fitted: dict[str, Tensor]) -> Tensor:
    tensors = [fitted[f"mahalanobis.{name}"] for name in ("centre", "whitening", "means")]
    return mahalanobis(unit(features), *tensors)


def reference_mahalanobis(
    rows: Tensor, training: Tensor, classes: Tensor, ridge: float, excluded: int = -1
) -> NDArray[np.float64]:
    directions = [row / np.linalg.norm(row) for row in training.double().numpy()]
    labels = classes.tolist()
    means = {}
    for label in set(labels) - {excluded}:
        means[label] = np.mean([d for d, c in zip(directions, labels, strict=True) if c == label], axis=0)
    covariance = np.zeros((training.shape[1], training.shape[1]))
    for direction, label in zip(directions, labels, strict=True):
        covariance += np.outer(direction - means[label], direction - means[label]) / len(labels)
    covariance += (ridge * np.trace(covariance) / len(covariance) + 1e-12) * np.eye(len(covariance))
    precision = np.linalg.inv(covariance)
    scores = []
    for row in rows.double().numpy():
        offsets = [row / np.linalg.norm(row) - mean for mean in means.values()]
        scores.append(-min(offset @ precision @ offset for offset in offsets))
    return np.array(scores)


@pytest.mark.parametrize("ridge", [1e-6, 0.1])
def test_is_minus_the_squared_distance_to_the_nearest_class(ridge: float) -> None:
    training, classes = features_of(300, seed=60)
    rows = torch.rand(10, CHANNELS, generator=seeded(61))
    fitted = fit_mahalanobis(accumulated(training, classes, CLASSES), ridge)
    np.testing.assert_allclose(
        score(rows, fitted).numpy(), reference_mahalanobis(rows, training, classes, ridge), rtol=1e-3
    )


def test_training_images_lie_as_far_off_as_there_are_channels_on_average() -> None:
    training, classes = features_of(1000, seed=62)
    fitted = fit_mahalanobis(accumulated(training, classes, CLASSES))
    assert -score(training, fitted).mean().item() == pytest.approx(CHANNELS, rel=0.05)


def test_class_without_training_images_attracts_nothing() -> None:
    training, classes = features_of(300, seed=63)
    some = classes != 2
    fitted = fit_mahalanobis(accumulated(training[some], classes[some], CLASSES))
    assert fitted["mahalanobis.means"].shape == (CLASSES - 1, CHANNELS)
    expected = reference_mahalanobis(training[:10], training[some], classes[some], 1e-6, excluded=2)
    np.testing.assert_allclose(score(training[:10], fitted).numpy(), expected, rtol=1e-3)


def test_dead_channel_makes_no_infinity() -> None:
    training, classes = features_of(300, seed=64)
    training[:, 5] = 0
    fitted = fit_mahalanobis(accumulated(training, classes, CLASSES))
    alive, woken = training[:1].clone(), training[:1].clone()
    woken[0, 5] = 1
    scores = score(torch.cat([alive, woken]), fitted)
    assert scores.isfinite().all()
    assert scores[1] < 100 * scores[0]


def test_fewer_images_than_channels_are_enough_for_a_number() -> None:
    training, classes = features_of(7, seed=65)
    fitted = fit_mahalanobis(accumulated(training, classes, CLASSES))
    assert score(features_of(20, seed=66)[0], fitted).isfinite().all()


def test_identical_images_are_enough_for_a_number() -> None:
    training = torch.ones(10, CHANNELS)
    fitted = fit_mahalanobis(accumulated(training, torch.zeros(10, dtype=torch.int64), CLASSES))
    assert score(torch.eye(CHANNELS), fitted).isfinite().all()
    assert score(training, fitted).abs().max() < 1e-3


def test_length_of_the_features_does_not_matter() -> None:
    training, classes = features_of(300, seed=67)
    fitted = fit_mahalanobis(accumulated(training, classes, CLASSES))
    torch.testing.assert_close(score(1000 * training, fitted), score(training, fitted), rtol=1e-3, atol=1e-3)


def test_positive_form_is_1_at_a_class_mean_and_falls_with_the_distance() -> None:
    assert mahalanobis_positive(torch.tensor([0.0, -1.0, -3.0])).tolist() == [1, 0.5, 0.25]

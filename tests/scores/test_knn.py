import math

import numpy as np
import pytest
import torch
from torch import Tensor
from training import seeded

from oodgate.scores import knn as module
from oodgate.scores.forward import unit
from oodgate.scores.knn import fit_knn, knn, knn_positive
from oodgate.scores.statistics import Statistics, StatisticsAccumulator


def random_rows(count: int, seed: int, channels: int = 6) -> Tensor:
    return torch.rand(count, channels, generator=seeded(seed))


def accumulated(features: Tensor, bank_size: int) -> Statistics:
    accumulator = StatisticsAccumulator(features.shape[1], 1, bank_size)
    accumulator.add(features, torch.zeros(len(features), dtype=torch.int64))
    return accumulator.finish()


def normalised(row: list[float]) -> list[float]:
    size = math.sqrt(sum(value * value for value in row))
    return [value / size for value in row]


def reference_knn(rows: Tensor, bank: Tensor, k: int) -> list[float]:
    known = [normalised(row) for row in bank.tolist()]
    return [-sorted(math.dist(normalised(row), other) for other in known)[k - 1] for row in rows.tolist()]


@pytest.mark.parametrize("k", [1, 2, 7, 30])
def test_is_minus_the_distance_to_the_kth_nearest_direction(k: int) -> None:
    rows, bank = random_rows(9, seed=0), random_rows(30, seed=1)
    np.testing.assert_allclose(knn(unit(rows), unit(bank), k).numpy(), reference_knn(rows, bank, k), rtol=1e-5)


def test_search_in_chunks_is_the_same_search(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, bank = random_rows(9, seed=0), random_rows(30, seed=1)
    whole = knn(unit(rows), unit(bank), 3)
    monkeypatch.setattr(module, "_CHUNK", 70)  # two rows at a time
    torch.testing.assert_close(knn(unit(rows), unit(bank), 3), whole)


def test_image_of_the_bank_is_at_no_distance_of_itself() -> None:
    bank = unit(random_rows(200, seed=2, channels=300))
    assert knn(bank[:20], bank, 1).abs().max() == 0


def test_close_neighbours_keep_their_digits() -> None:
    bank = torch.tensor([[1.0, 0.0]])
    near = torch.tensor([[1.0, 1e-5]])
    assert knn(near, bank, 1).item() == pytest.approx(-1e-5)


def test_length_of_the_features_does_not_matter() -> None:
    rows, bank = random_rows(9, seed=0), unit(random_rows(30, seed=1))
    torch.testing.assert_close(knn(unit(1000 * rows), bank, 3), knn(unit(rows), bank, 3))


def test_zero_vector_is_a_number() -> None:
    assert unit(torch.zeros(1, 6)).tolist() == [[0.0] * 6]
    assert knn(unit(torch.zeros(1, 6)), unit(random_rows(5, seed=3)), 2).item() == pytest.approx(-1)


def test_k_above_the_bank_means_its_farthest_row() -> None:
    rows, bank = unit(random_rows(4, seed=0)), unit(random_rows(5, seed=1))
    assert knn(rows, bank, 50).equal(knn(rows, bank, 5))


def test_positive_form_is_the_cosine_to_the_neighbour() -> None:
    rows, bank = unit(random_rows(4, seed=0)), unit(random_rows(5, seed=1))
    cosines = (rows @ bank.T).sort(1, descending=True).values[:, 1]
    torch.testing.assert_close(knn_positive(knn(rows, bank, 2)), cosines)


@pytest.mark.parametrize(
    ("images", "bank_size", "k", "expected"),
    [(100, 100, 50, 50), (100, 500, 50, 50), (500, 100, 50, 10), (1000, 10, 50, 1), (600, 4, 50, 1)],
)
def test_k_shrinks_with_the_bank_and_stays_1(images: int, bank_size: int, k: int, expected: int) -> None:
    fitted = fit_knn(accumulated(random_rows(images, seed=4), bank_size), k)
    assert fitted["knn.k"].item() == expected
    assert fitted["knn.bank"].shape == (min(images, bank_size), 6)


def test_bank_holds_the_directions_of_the_training_images() -> None:
    features = random_rows(7, seed=5)
    bank = fit_knn(accumulated(features, 7))["knn.bank"]
    expected = sorted(normalised(row) for row in features.tolist())
    np.testing.assert_allclose(np.array(sorted(bank.tolist())), expected, rtol=1e-6)

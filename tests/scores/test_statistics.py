import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from training import seeded

from oodgate.errors import SetupError
from oodgate.scores.statistics import Statistics, StatisticsAccumulator

ROWS, CHANNELS, CLASSES = 60, 5, 3


def training() -> tuple[Tensor, Tensor]:
    features = 3 * torch.rand(ROWS, CHANNELS, generator=seeded(70))
    return features, torch.randint(CLASSES, (ROWS,), generator=seeded(71))


def accumulate(sizes: list[int], bank_size: int = 20, seed: int = 0) -> Statistics:
    """The statistics of the training rows, added in batches of these sizes and a last one of the rest."""
    features, classes = training()
    accumulator = StatisticsAccumulator(CHANNELS, CLASSES, bank_size, seed)
    start = 0
    for size in [*sizes, ROWS]:
        accumulator.add(features[start : start + size], classes[start : start + size])
        start += size
    return accumulator.finish()


def sampled_rows(seed: int, rows: int, bank_size: int) -> list[int]:
    """Which of the rows 0, 1, 2, ... a sample holds."""
    accumulator = StatisticsAccumulator(1, 1, bank_size, seed)
    numbers = torch.arange(rows, dtype=torch.float32)[:, None]
    for batch in numbers.split(5):
        accumulator.add(batch, torch.zeros(len(batch), dtype=torch.int64))
    return [int(value) for value in accumulator.finish().sample[:, 0]]


def test_equal_what_loops_over_all_images_give() -> None:
    statistics = accumulate([7, 7, 7])
    features, classes = training()
    sums, moment = np.zeros((CLASSES, CHANNELS)), np.zeros((CHANNELS, CHANNELS))
    for row, label in zip(features.double().numpy(), classes.tolist(), strict=True):
        direction = row / math.sqrt(sum(row * row))
        sums[label] += direction
        moment += np.outer(direction, direction)
    assert statistics.count == ROWS
    assert statistics.class_counts.tolist() == [classes.tolist().count(label) for label in range(CLASSES)]
    np.testing.assert_allclose(statistics.mean.numpy(), features.double().numpy().mean(0), rtol=1e-12)
    np.testing.assert_allclose(statistics.class_sums.numpy(), sums, rtol=1e-9)
    np.testing.assert_allclose(statistics.second_moment.numpy(), moment, rtol=1e-9)


@settings(deadline=None)
@given(st.lists(st.integers(0, 30), max_size=8), st.integers(1, 80))
def test_do_not_depend_on_the_batches(sizes: list[int], bank_size: int) -> None:
    found, at_once = accumulate(sizes, bank_size), accumulate([], bank_size)
    assert found.sample.equal(at_once.sample)
    assert found.class_counts.equal(at_once.class_counts)
    for name in ("mean", "class_sums", "second_moment"):
        torch.testing.assert_close(getattr(found, name), getattr(at_once, name), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bank_size", [ROWS, 1000])
def test_sample_is_every_image_where_they_fit(bank_size: int) -> None:
    assert sorted(accumulate([13], bank_size).sample.tolist()) == sorted(training()[0].tolist())


def test_sample_holds_different_rows_as_they_came() -> None:
    sample = accumulate([13], bank_size=20).sample
    assert sample.shape == (20, CHANNELS)
    assert sample.dtype == torch.float32
    rows = {tuple(row) for row in sample.tolist()}
    assert len(rows) == 20
    assert rows < {tuple(row) for row in training()[0].tolist()}


def test_sample_is_drawn_by_its_seed() -> None:
    assert accumulate([], seed=5).sample.equal(accumulate([], seed=5).sample)
    assert not accumulate([], seed=5).sample.equal(accumulate([], seed=6).sample)


def test_every_image_is_sampled_with_the_same_probability() -> None:
    draws, rows, bank_size = 1200, 12, 4
    seen = np.zeros(rows)
    for seed in range(draws):
        seen[sampled_rows(seed, rows, bank_size)] += 1
    deviation = math.sqrt(draws * bank_size / rows * (1 - bank_size / rows))
    assert np.abs(seen - draws * bank_size / rows).max() < 4 * deviation


def test_half_precision_features_are_summed_in_double_precision() -> None:
    accumulator = StatisticsAccumulator(1, 1)
    for _ in range(100):
        accumulator.add(torch.full((100, 1), 300.0, dtype=torch.float16), torch.zeros(100, dtype=torch.int64))
    assert accumulator.finish().mean.tolist() == [300]


def test_image_without_any_activation_has_no_direction() -> None:
    accumulator = StatisticsAccumulator(2, 1)
    accumulator.add(torch.tensor([[0.0, 0.0], [3.0, 4.0]]), torch.tensor([0, 0]))
    sums = accumulator.finish().class_sums
    np.testing.assert_allclose(sums.numpy(), [[0.6, 0.8]], rtol=1e-9)


def test_what_was_finished_does_not_change_when_more_is_added() -> None:
    features, classes = training()
    accumulator = StatisticsAccumulator(CHANNELS, CLASSES, 20)
    accumulator.add(features, classes)
    first = accumulator.finish()
    kept = first.second_moment.clone(), first.class_sums.clone(), first.sample.clone()
    accumulator.add(features, classes)
    assert first.second_moment.equal(kept[0])
    assert first.class_sums.equal(kept[1])
    assert first.sample.equal(kept[2])
    assert accumulator.finish().count == 2 * first.count


def test_refuse_to_speak_of_no_images() -> None:
    with pytest.raises(SetupError, match="no training images"):
        StatisticsAccumulator(2, 1).finish()

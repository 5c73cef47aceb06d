import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oodgate.offline.measures import Measures, accuracy, fpr95, mean_measures, measure

scores = st.lists(st.integers(-50, 50), min_size=1, max_size=60)


def test_perfect_separation_has_no_false_positives() -> None:
    assert measure(np.arange(100, 200.0), np.arange(100.0)) == Measures(0.0, 100.0, 100.0)


def test_fpr95_counts_strange_images_at_or_above_the_score_that_keeps_95_percent() -> None:
    known = np.arange(100.0)  # 95 of them are at 5 or above
    strange = np.array([4.9, 5.0, 5.1, -1.0])
    assert fpr95(known, strange) == 50.0


def test_reversed_scores_turn_auroc_around() -> None:
    known, strange = np.array([1.0, 2.0, 3.0]), np.array([2.5, 0.0])
    assert measure(known, strange).auroc + measure(-known, -strange).auroc == pytest.approx(100)


@given(known=scores, strange=scores)
def test_auroc_is_the_share_of_pairs_in_the_right_order(known: list[int], strange: list[int]) -> None:
    pairs = [(k > s) + 0.5 * (k == s) for k in known for s in strange]
    found = measure(np.array(known, dtype=float), np.array(strange, dtype=float)).auroc
    assert found == pytest.approx(100 * sum(pairs) / len(pairs))


@given(known=scores, strange=scores)
def test_the_threshold_of_fpr95_keeps_at_least_95_percent(known: list[int], strange: list[int]) -> None:
    ordered = sorted(known)
    kept = [t for t in ordered if sum(k >= t for k in known) >= 0.95 * len(known)]
    expected = 100 * sum(s >= max(kept) for s in strange) / len(strange)
    assert fpr95(np.array(known, dtype=float), np.array(strange, dtype=float)) == pytest.approx(expected)


def test_accuracy_is_in_percent() -> None:
    assert accuracy(np.array([1, 2, 3, 3]), [1, 2, 0, 3]) == 75.0


def test_the_mean_is_over_sets() -> None:
    assert mean_measures([Measures(10, 90, 80), Measures(20, 80, 60)]) == Measures(15, 85, 70)

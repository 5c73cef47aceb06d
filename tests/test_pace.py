import pytest

from oodgate.pace import Pace


def test_nothing_is_expected_before_the_first_batch() -> None:
    assert Pace(2).answer_s(1000) == 0


def test_an_answer_takes_the_batches_ahead_on_all_workers_and_one_of_its_own() -> None:
    pace = Pace(workers=2)
    pace.learn(images=4, seconds=0.8)
    assert pace.answer_s(0) == pytest.approx(0.8)
    assert pace.answer_s(10) == pytest.approx(10 * 0.2 / 2 + 0.8)


def test_the_pace_follows_the_newest_batches() -> None:
    pace = Pace(1)
    pace.learn(1, 10.0)
    for _ in range(50):
        pace.learn(1, 1.0)
    assert pace.answer_s(0) == pytest.approx(1.0, rel=1e-3)

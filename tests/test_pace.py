import pytest

from oodgate.pace import Pace


def test_nothing_is_expected_before_the_first_batch() -> None:
    assert Pace(2).answer_s(1000) == 0


def test_an_answer_takes_the_batch_at_work_those_ahead_on_all_workers_and_one_of_its_own() -> None:
    pace = Pace(workers=2)
    pace.learn(images=4, seconds=0.8)
    assert pace.answer_s(0) == pytest.approx(0.8 + 0.8)
    assert pace.answer_s(10) == pytest.approx(0.8 + 10 * 0.2 / 2 + 0.8)


def test_what_waits_keeps_all_workers_busy_for_its_share_of_their_batches() -> None:
    pace = Pace(workers=2)
    assert pace.busy_s(100) == 0
    pace.learn(images=4, seconds=0.8)
    assert pace.busy_s(100) == pytest.approx(100 * 0.2 / 2)


def test_batches_that_differ_are_given_longer() -> None:
    even, uneven = Pace(1), Pace(1)
    for number in range(200):
        even.learn(1, 1.0)
        uneven.learn(1, 0.5 + number % 2)
    assert even.answer_s(0) == pytest.approx(2.0)
    assert uneven.answer_s(0) == pytest.approx(2 * (1.0 + 4 * 0.5), rel=0.2)


def test_the_pace_follows_the_newest_batches() -> None:
    pace = Pace(1)
    pace.learn(1, 10.0)
    for _ in range(50):
        pace.learn(1, 1.0)
    assert pace.answer_s(0) == pytest.approx(2.0, rel=1e-2)

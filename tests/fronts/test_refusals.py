"""A front refuses by itself what the device process has just refused, and nothing else."""

import gc
import weakref

import numpy as np
import pytest

from oodgate.errors import DeadlineUnreachable, InvalidImage, QueueFull, RequestError
from oodgate.fronts import refusals
from oodgate.fronts.refusals import Refusals


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(refusals, "monotonic", made)
    return made


def refused(kind: type[RequestError], busy_s: float) -> RequestError:
    error = kind("later")
    error.busy_s = busy_s
    return error


def is_refused(known: Refusals, lane: str, patience_ms: float) -> bool:
    try:
        known.check(lane, patience_ms)
    except RequestError:
        return True
    return False


def test_the_next_request_hears_the_same(clock: Clock) -> None:
    known = Refusals()
    known.learn("a", 750, refused(DeadlineUnreachable, 0.6))
    with pytest.raises(DeadlineUnreachable, match="later") as found:
        known.check("a", 750)
    assert found.value.busy_s == 0.6


def test_nobody_is_refused_before_anybody_was(clock: Clock) -> None:
    assert not is_refused(Refusals(), "a", 750)


@pytest.mark.parametrize(("busy_s", "lasts_s"), [(0.6, 0.05), (0.1, 0.025)])
def test_it_is_forgotten_long_before_the_work_that_waits_is_done(busy_s: float, lasts_s: float, clock: Clock) -> None:
    known = Refusals()
    known.learn("a", 750, refused(QueueFull, busy_s))
    clock.now_s += lasts_s - 0.001
    assert is_refused(known, "a", 750)
    clock.now_s += 0.002
    assert not is_refused(known, "a", 750)


def test_who_can_wait_longer_may_ask(clock: Clock) -> None:
    known = Refusals()
    known.learn("a", 100, refused(DeadlineUnreachable, 0.6))
    assert is_refused(known, "a", 50)
    assert not is_refused(known, "a", 101)


def test_who_shares_no_lane_with_the_refused_may_ask(clock: Clock) -> None:
    known = Refusals()
    known.learn("a", 750, refused(QueueFull, 0.6))
    assert not is_refused(known, "b", 750)


def test_a_fault_of_the_request_itself_is_no_reason_to_refuse_others(clock: Clock) -> None:
    known = Refusals()
    known.learn("a", 750, refused(InvalidImage, 0.0))
    assert not is_refused(known, "a", 750)


def test_what_is_forgotten_takes_no_memory(clock: Clock) -> None:
    known = Refusals()
    for number in range(1000):
        known.learn(str(number), 750, refused(QueueFull, 0.6))
        clock.now_s += 0.01
    assert len(known._latest) <= 6


def test_the_request_that_was_refused_is_not_kept(clock: Clock) -> None:
    known, kept = Refusals(), []

    def refuse(image: np.ndarray) -> None:
        kept.append(weakref.ref(image))
        try:
            raise refused(QueueFull, 0.6)
        except RequestError as error:
            known.learn("a", 750, error)

    refuse(np.zeros(10))
    gc.collect()
    assert kept[0]() is None
    assert is_refused(known, "a", 750)

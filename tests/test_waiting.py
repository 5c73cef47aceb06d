"""What waits: until when it may wait for others."""

from concurrent.futures import Future
from time import monotonic

import pytest

from oodgate.answers import Answer
from oodgate.waiting import Entry, WaitingRoom

NEVER = 1e9


def room(*entries: tuple[float, float]) -> WaitingRoom[int, int]:
    """Entries by their arrival and deadline, in seconds from now, each in a lane of its own."""
    now, found = monotonic(), WaitingRoom[int, int](100, 1)
    for number, (arrival, deadline) in enumerate(entries):
        promise: Future[Answer[int]] = Future()
        found.push(Entry(number, promise, now + deadline, str(number), now + arrival))
    return found


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([(0, NEVER)], 10),
        ([(-4, NEVER)], 6),
        ([(-15, NEVER)], -5),
        ([(-1, NEVER), (-4, NEVER), (-2, NEVER)], 6),
        ([(0, 8)], 4),
        ([(-2, 8)], 3),
        ([(-4, NEVER), (0, 8)], 4),
        ([(-9, NEVER), (0, 8)], 1),
    ],
)
def test_nobody_waits_longer_than_allowed_or_than_half_of_his_time(
    entries: list[tuple[float, float]], expected: float
) -> None:
    assert room(*entries).patience_s(10) == pytest.approx(expected, abs=0.5)

"""Lanes take turns, and the longest gives places up."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from oodgate.lanes import Lanes

PUSHES = st.lists(st.tuples(st.sampled_from("abc"), st.integers()), max_size=30)


def filled(**lanes: int) -> Lanes[str]:
    """Lanes of so many items each, numbered."""
    queue: Lanes[str] = Lanes()
    for lane, count in lanes.items():
        for number in range(count):
            queue.push(lane, f"{lane}{number}")
    return queue


def emptied(queue: Lanes[str]) -> list[str]:
    return [queue.pop() for _ in range(len(queue))]


def test_one_lane_is_first_come_first_served() -> None:
    assert emptied(filled(a=3)) == ["a0", "a1", "a2"]


def test_a_lane_with_few_items_does_not_wait_for_one_with_many() -> None:
    assert emptied(filled(many=5, few=2)) == ["many0", "few0", "many1", "few1", "many2", "many3", "many4"]


def test_a_lane_that_comes_back_waits_for_its_turn() -> None:
    queue = filled(a=2, b=1)
    assert queue.pop() == "a0"
    queue.push("c", "c0")
    assert emptied(queue) == ["b0", "a1", "c0"]


def test_the_items_ahead_are_those_that_leave_before_a_new_one() -> None:
    assert filled(a=3, b=1).ahead_of("a") == 4
    assert filled(a=3, b=1).ahead_of("b") == 3  # a0, b0, a1, then the new one
    assert filled(a=3, b=1).ahead_of("c") == 2
    assert filled().ahead_of("a") == 0


def test_the_longest_lane_gives_up_its_last_place_to_a_shorter_one() -> None:
    queue = filled(a=3, b=1)
    assert queue.longer_than("c") == queue.longer_than("b") == "a"
    assert queue.take_back("a") == "a2"
    assert queue.longer_than("c") == "a"
    assert queue.longer_than("b") is None  # it would be as long as the other then
    assert queue.longer_than("a") is None
    assert len(queue) == 3
    assert filled().longer_than("a") is None


def test_what_nobody_waits_for_leaves_no_gap() -> None:
    queue = filled(a=3, b=1)
    queue.discard(lambda item: item in ("a1", "b0"))
    assert len(queue) == 2
    assert emptied(queue) == ["a0", "a2"]


@given(PUSHES)
def test_every_item_leaves_once_in_the_order_of_its_lane(pushes: list[tuple[str, int]]) -> None:
    queue: Lanes[tuple[str, int, int]] = Lanes()
    for position, (lane, number) in enumerate(pushes):
        queue.push(lane, (lane, number, position))
    left = [queue.pop() for _ in range(len(queue))]
    assert len(queue) == 0
    for lane in "abc":
        assert [item for item in left if item[0] == lane] == [
            (name, number, position) for position, (name, number) in enumerate(pushes) if name == lane
        ]


@given(PUSHES)
def test_no_lane_gets_two_turns_while_another_waits_for_its_next(pushes: list[tuple[str, int]]) -> None:
    queue: Lanes[str] = Lanes()
    waiting = Counter(lane for lane, _ in pushes)
    for lane, _ in pushes:
        queue.push(lane, lane)
    last = ""
    for _ in range(len(queue)):
        lane = queue.pop()
        waiting[lane] -= 1
        assert lane != last or not any(count for name, count in waiting.items() if name != lane)
        last = lane

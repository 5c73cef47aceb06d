"""A deadline passes once, at its time, and only if it is the last that was set."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

from oodgate.deadline import Deadline

SOON_S, LATER_S, PAST_S = 0.05, 0.3, 1.5


def passed(steps: Callable[[Deadline, list[str]], Coroutine[Any, Any, None]], wait_s: float = PAST_S) -> list[str]:
    """What was late, and when of the loop's clock since the start was checked not to be too soon."""
    late: list[str] = []

    async def run() -> None:
        deadline = Deadline(asyncio.get_running_loop())
        await steps(deadline, late)
        await asyncio.sleep(wait_s)
        deadline.close()

    uvloop.run(run())
    return late


def test_what_is_not_met_is_told_once() -> None:
    async def steps(deadline: Deadline, late: list[str]) -> None:
        deadline.set(SOON_S, lambda: late.append("a"))

    assert passed(steps) == ["a"]


def test_it_is_not_told_before_its_time() -> None:
    async def steps(deadline: Deadline, late: list[str]) -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()
        deadline.set(SOON_S, lambda: None)
        deadline.set(LATER_S, lambda: late.append("in time" if loop.time() - start > LATER_S - 0.001 else "too soon"))

    assert passed(steps) == ["in time"]


def test_what_is_met_or_replaced_is_not_told() -> None:
    async def steps(deadline: Deadline, late: list[str]) -> None:
        deadline.set(SOON_S, lambda: late.append("replaced"))
        deadline.set(SOON_S, lambda: late.append("met"))
        deadline.clear()

    assert passed(steps) == []


def test_a_sooner_one_does_not_wait_for_the_timer_of_the_one_before() -> None:
    async def steps(deadline: Deadline, late: list[str]) -> None:
        deadline.set(1000, lambda: late.append("far"))
        deadline.clear()
        deadline.set(SOON_S, lambda: late.append("near"))

    assert passed(steps) == ["near"]


def test_one_set_after_an_idle_timer_fired_is_told() -> None:
    async def steps(deadline: Deadline, late: list[str]) -> None:
        deadline.set(SOON_S, lambda: late.append("met"))
        deadline.clear()
        await asyncio.sleep(2 * SOON_S)
        deadline.set(SOON_S, lambda: late.append("b"))

    assert passed(steps) == ["b"]


def test_nothing_is_told_once_it_is_closed() -> None:
    async def steps(deadline: Deadline, late: list[str]) -> None:
        deadline.set(SOON_S, lambda: late.append("a"))
        deadline.close()

    assert passed(steps) == []

"""The alarm of the load generator."""

import asyncio
from time import perf_counter

import pytest
import uvloop

from oodgate.bench import alarm as module
from oodgate.bench.alarm import Alarm
from oodgate.errors import SetupError


async def rings_of(delays_s: list[float], wait_s: float) -> tuple[float, list[float]]:
    """When an alarm was set for each of these in turn, and when it rang within some time."""
    rings: list[float] = []
    alarm = Alarm(asyncio.get_running_loop(), lambda: rings.append(perf_counter()))
    start = perf_counter()
    for delay_s in delays_s:
        alarm.set(delay_s)
    await asyncio.sleep(wait_s)
    alarm.close()
    return start, rings


def test_an_alarm_rings_once_and_not_before_its_time() -> None:
    start, rings = uvloop.run(rings_of([0.0504], 0.3))
    assert len(rings) == 1
    assert rings[0] - start >= 0.0504


def test_a_time_that_is_past_rings_at_once() -> None:
    assert len(uvloop.run(rings_of([-1.0], 0.1))[1]) == 1
    assert len(uvloop.run(rings_of([0.0], 0.1))[1]) == 1


def test_an_alarm_that_is_set_anew_forgets_the_time_before() -> None:
    start, rings = uvloop.run(rings_of([0.01, 1.25, 0.1], 0.3))
    assert len(rings) == 1
    assert rings[0] - start >= 0.1


def test_an_alarm_that_is_closed_is_silent() -> None:
    async def closed_early() -> list[float]:
        rings: list[float] = []
        alarm = Alarm(asyncio.get_running_loop(), lambda: rings.append(perf_counter()))
        alarm.set(0.01)
        alarm.close()
        await asyncio.sleep(0.1)
        return rings

    assert uvloop.run(closed_early()) == []


def test_a_system_without_such_timers_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_libc", object())
    with pytest.raises(SetupError, match="Linux"):
        uvloop.run(rings_of([0.1], 0.0))

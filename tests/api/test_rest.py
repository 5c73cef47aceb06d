"""Rests of an event loop: as long as the work that waits allows, one at a time, and only for work that waits."""

import asyncio

import pytest

from oodgate.api import rest
from oodgate.api.rest import Rests
from oodgate.errors import DeadlineUnreachable, InvalidImage, QueueFull, RequestError


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    monkeypatch.setattr(rest, "sleep", found.append)
    return found


def refused(kind: type[RequestError], busy_s: float) -> RequestError:
    error = kind("later")
    error.busy_s = busy_s
    return error


async def refuse(rests: Rests, *errors: RequestError) -> None:
    for error in errors:
        rests.rest_after(error)
    await asyncio.sleep(0)


@pytest.mark.parametrize(("busy_s", "expected"), [(10.0, [0.01]), (0.04, [0.004]), (0.0, [])])
def test_a_rest_is_a_small_share_of_the_work_that_waits(
    busy_s: float, expected: list[float], slept: list[float]
) -> None:
    asyncio.run(refuse(Rests(), refused(DeadlineUnreachable, busy_s)))
    assert slept == pytest.approx(expected)


def test_what_is_refused_together_is_followed_by_one_rest(slept: list[float]) -> None:
    rests = Rests()

    async def twice() -> None:
        await refuse(rests, *[refused(QueueFull, 1.0)] * 5)
        await refuse(rests, *[refused(QueueFull, 1.0)] * 3)

    asyncio.run(twice())
    assert slept == [0.01, 0.01]


def test_nobody_rests_for_a_request_that_is_wrong_itself(slept: list[float]) -> None:
    asyncio.run(refuse(Rests(), InvalidImage("no image"), QueueFull("2 images are being answered already")))
    assert slept == []

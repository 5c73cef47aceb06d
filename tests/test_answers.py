"""Answers reach those who wait for them, once, and in one step of their loop."""

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import Future

import pytest

from oodgate.answers import Answer, Kept, keep, keep_on_loop
from oodgate.errors import InferenceFailed, NotReady

TWO, FAILURE = Answer(2, 0.5), InferenceFailed("not a number")


def test_results_and_errors_are_told_to_their_own_promises() -> None:
    good: Future[Answer[int]] = Future()
    bad: Future[Answer[int]] = Future()
    keep([(good, TWO), (bad, FAILURE)])
    assert good.result(0) is TWO
    assert bad.exception(0) is FAILURE


def test_a_promise_that_is_kept_stays_as_it_is() -> None:
    promise: Future[Answer[int]] = Future()
    keep([(promise, TWO), (promise, NotReady("too late")), (promise, Answer(3, 0.0))])
    assert promise.result(0) is TWO


def from_a_thread(answers: Sequence[Kept[int]], after_s: float = 0.0) -> None:
    thread = threading.Thread(target=keep_on_loop, args=[answers, after_s])
    thread.start()
    thread.join()


def test_a_thread_keeps_all_promises_of_a_loop_in_one_step() -> None:
    async def ask() -> list[object]:
        loop = asyncio.get_running_loop()
        promises: list[asyncio.Future[Answer[int]]] = [loop.create_future() for _ in range(3)]
        promises[1].cancel()
        from_a_thread(list(zip(promises, (TWO, TWO, FAILURE), strict=True)))
        assert not promises[0].done()  # until the loop has its turn
        await promises[0]
        assert promises[2].done()
        return await asyncio.gather(*promises, return_exceptions=True)

    first, second, third = asyncio.run(ask())
    assert (first, third) == (TWO, FAILURE)
    assert isinstance(second, asyncio.CancelledError)


def test_promises_of_a_loop_are_kept_after_the_time_that_is_asked_for() -> None:
    async def ask() -> list[float]:
        loop = asyncio.get_running_loop()
        kept_s: list[float] = []
        for after_s in (0.0, 0.05):
            promise: asyncio.Future[Answer[int]] = loop.create_future()
            start = loop.time()
            from_a_thread([(promise, TWO)], after_s)
            assert await promise is TWO
            kept_s.append(loop.time() - start)
        return kept_s

    at_once_s, later_s = asyncio.run(ask())
    assert later_s >= 0.05 > at_once_s


def test_promises_of_a_loop_that_is_closed_are_left() -> None:
    loop = asyncio.new_event_loop()
    promise: asyncio.Future[Answer[int]] = loop.create_future()
    loop.close()
    from_a_thread([(promise, TWO)])
    from_a_thread([])
    assert not promise.done()


class Broken(Future[Answer[int]]):
    """A promise that cannot be kept."""

    def set_result(self, result: Answer[int], /) -> None:
        raise OSError("nobody is there")


def test_a_promise_that_cannot_be_kept_takes_no_other_along() -> None:
    first: Future[Answer[int]] = Future()
    last: Future[Answer[int]] = Future()
    with pytest.raises(OSError, match="nobody is there"):
        keep([(first, TWO), (Broken(), TWO), (Broken(), TWO), (last, TWO)])
    assert first.result(0) is last.result(0) is TWO

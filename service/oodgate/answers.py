"""Answers on their way from a worker to those who wait for them, batch by batch."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, cast

from oodgate.errors import RequestError

Result = TypeVar("Result")
_Kept = TypeVar("_Kept", contravariant=True)


@dataclass(frozen=True, slots=True)
class Answer(Generic[Result]):
    """A result, and how long its item waited for a worker."""

    result: Result
    queue_ms: float


class Promise(Protocol[_Kept]):
    """Where an answer is awaited: a future, of an event loop or of threads."""

    def done(self) -> bool: ...  # noqa: D102
    def set_result(self, result: _Kept, /) -> None: ...  # noqa: D102
    def set_exception(self, exception: BaseException, /) -> None: ...  # noqa: D102


Kept = tuple[Promise[Answer[Result]], Answer[Result] | RequestError]
"""A promise, and what keeps it."""


def keep(answers: Sequence[Kept[Result]]) -> None:
    """Keep promises, but for those that are kept already or that nobody waits for any more."""
    for position, (promise, answer) in enumerate(answers):
        try:
            _keep_one(promise, answer)
        except BaseException:
            keep(answers[position + 1 :])  # the others wait for theirs whatever happens to one
            raise


def _keep_one(promise: Promise[Answer[Result]], answer: Answer[Result] | RequestError) -> None:
    if promise.done():
        return
    if isinstance(answer, RequestError):
        promise.set_exception(answer)
    else:
        promise.set_result(answer)


def keep_on_loop(answers: Sequence[Kept[Result]], after_s: float = 0.0) -> None:
    """Keep promises of an event loop from another thread, all in one step of the loop: to wake it is what costs."""
    if answers:
        loop = cast("asyncio.Future[Any]", answers[0][0]).get_loop()
        with suppress(RuntimeError):  # it is closed, and nobody waits
            if after_s:
                loop.call_soon_threadsafe(loop.call_later, after_s, keep, answers)
            else:
                loop.call_soon_threadsafe(keep, answers)

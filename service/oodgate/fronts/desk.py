"""What the device process does for one front: judges pictures, answers requests that are passed on, counts."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic
from typing import Any

import orjson
import structlog
from starlette.types import ASGIApp

from oodgate.api import render
from oodgate.api.origin import Origin, hash_of_client
from oodgate.api.repository import Repository
from oodgate.errors import Draining, RequestError
from oodgate.fronts.link import Link
from oodgate.fronts.messages import Ask, pack_refusal, read_ask, read_report, read_scope
from oodgate.fronts.passed import PassedRequest
from oodgate.fronts.reports import Account
from oodgate.fronts.slots import Slots
from oodgate.fronts.transforms import Transforms
from oodgate.fronts.wire import Frame, Kind
from oodgate.images.opening import Opened

Tasks = set[asyncio.Task[Any]]

log = structlog.stdlib.get_logger("oodgate")


@dataclass(frozen=True)
class Office:
    """What the desks of all fronts share."""

    service: ASGIApp
    repository: Repository
    transforms: Transforms
    tasks: Tasks  # the server waits for them when it ends


class Desk:
    """Takes the frames of one front. Every exchange gets its last frame once, whatever becomes of it."""

    def __init__(self, office: Office, link: Link, slots: Slots) -> None:
        self._office = office
        self._link = link
        self._slots = slots
        self._account = Account(office.repository.metrics)
        self._asked: dict[int, asyncio.Task[Any]] = {}
        self._passed: dict[int, tuple[PassedRequest, asyncio.Task[Any]]] = {}

    def take(self, frame: Frame) -> None:
        """Do what a frame asks for; raises ValueError where that cannot be understood."""
        if frame.kind == Kind.REPORT:
            self._account.take(read_report(frame.payload))
        elif frame.kind in (Kind.ASK, Kind.OPEN):
            if frame.exchange in self._asked or frame.exchange in self._passed:
                raise ValueError(f"exchange {frame.exchange} has begun already")
            (self._judge if frame.kind == Kind.ASK else self._open)(frame)
        elif frame.exchange in self._passed and frame.kind != Kind.LEFT:
            self._passed[frame.exchange][0].take(frame)
        elif frame.kind == Kind.LEFT:
            self._leave(frame.exchange)
        elif frame.kind not in (Kind.BODY, Kind.TAKEN):  # these may cross the end of their exchange
            raise ValueError("no front says that")

    def close(self) -> None:
        """The front is gone, and with it everybody who waits for an answer."""
        self._account.close()
        for exchange in (*self._asked, *self._passed):
            self._leave(exchange)

    def abandon(self) -> None:
        """Answer everybody now, whatever the work is at."""
        for task in (*self._asked.values(), *(task for _, task in self._passed.values())):
            task.cancel()

    def _judge(self, frame: Frame) -> None:
        ask, file = read_ask(frame.payload)
        if self._office.transforms.renew() or ask.transform != self._office.transforms.current.number:
            self._link.send(Kind.TRANSFORM, 0, self._office.transforms.current.model_dump_json().encode())
            self._link.send(Kind.AGAIN, frame.exchange)
            return
        task = self._start(frame.exchange, self._prediction(ask, file))
        self._asked[frame.exchange] = task
        task.add_done_callback(partial(self._reply, frame.exchange))

    async def _prediction(self, ask: Ask, file: bytes) -> tuple[bytes, bytes]:
        """Whether the image is accepted, and its document."""
        repository, remaining_ms = self._office.repository, 1000 * (ask.deadline_s - monotonic())
        origin = Origin(hash_of_client(ask.client), ask.request_id, file or None, ask.lane, remaining_ms)
        with repository.lease(repository.default) as predictor:
            preprocessing = predictor.gate.manifest.preprocessing
            pixels = self._slots.view(ask.slot, (*preprocessing.crop, 3))
            judged = await predictor.judge(Opened(pixels, ask.decode_ms), origin)
            judged = replace(judged, timing_ms=judged.timing_ms | {"total": 1000 * (monotonic() - ask.began_s)})
            document = render.prediction(judged, predictor.gate, ask.top_k, ask.request_id)
        return (b"\1" if judged.verdict.accepted else b"\0"), orjson.dumps(document)

    def _reply(self, exchange: int, task: asyncio.Task[tuple[bytes, bytes]]) -> None:
        del self._asked[exchange]
        if error := _failure(task):
            self._link.send(Kind.REFUSAL, exchange, pack_refusal(error))
        else:
            self._link.send(Kind.ANSWER, exchange, *task.result())

    def _open(self, frame: Frame) -> None:
        request = PassedRequest(self._link, frame.exchange, read_scope(frame.payload))
        task = self._start(frame.exchange, request.answer(self._office.service))
        self._passed[frame.exchange] = request, task
        task.add_done_callback(partial(self._end, frame.exchange))

    def _end(self, exchange: int, task: asyncio.Task[None]) -> None:
        del self._passed[exchange]
        _failure(task)
        self._link.send(Kind.END, exchange)

    def _leave(self, exchange: int) -> None:
        """Nobody waits any more: a judgement is given up, an application hears of it and decides itself."""
        if exchange in self._asked:
            self._asked[exchange].cancel()
        elif exchange in self._passed:
            self._passed[exchange][0].leave()

    def _start(self, exchange: int, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work, name=f"exchange-{exchange}")
        self._office.tasks.add(task)
        task.add_done_callback(self._office.tasks.discard)
        return task


def _failure(task: asyncio.Task[Any]) -> RequestError | None:
    """Why a task has no result, in words for the client; what nobody expected is logged."""
    if task.cancelled():
        return Draining("the service stopped before the answer was ready; ask another instance")
    error = task.exception()
    if error is None or isinstance(error, RequestError):
        return error
    log.error("unexpected error", exc_info=error)
    return RequestError("something unexpected happened; the log has it")

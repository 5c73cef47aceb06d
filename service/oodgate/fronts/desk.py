"""What the device process does for one front: has its pictures judged, answers what it passes on, counts for it."""

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog
from starlette.types import ASGIApp

from oodgate.api.repository import Repository
from oodgate.errors import RequestError
from oodgate.fronts.link import Link
from oodgate.fronts.messages import pack_refusal, read_ask, read_report, read_scope
from oodgate.fronts.passed import PassedRequest
from oodgate.fronts.question import Question, Reply
from oodgate.fronts.reports import Account
from oodgate.fronts.slots import Slots
from oodgate.fronts.transforms import Transforms
from oodgate.fronts.wire import Frame, Kind

log = structlog.stdlib.get_logger("oodgate")


@dataclass(frozen=True)
class Office:
    """What the desks of all fronts share."""

    app: ASGIApp
    repository: Repository
    transforms: Transforms
    tasks: set[Any]  # what the server waits for when it ends


class Desk:
    """Takes the frames of one front. Every exchange gets its last frame once, whatever becomes of it."""

    def __init__(self, office: Office, link: Link, slots: Slots) -> None:
        self._office = office
        self._link = link
        self._slots = slots
        self._account = Account(office.repository.metrics)
        self._questions: dict[int, Question] = {}
        self._passed: dict[int, tuple[PassedRequest, asyncio.Task[None]]] = {}

    def take(self, frame: Frame) -> None:
        """Do what a frame asks for; raises ValueError where that cannot be understood."""
        if frame.kind == Kind.REPORT:
            self._account.take(read_report(frame.payload))
        elif frame.kind in (Kind.ASK, Kind.OPEN):
            self._begin(frame)
        elif frame.kind == Kind.LEFT:
            self._leave(frame.exchange)
        elif frame.exchange in self._passed:
            self._passed[frame.exchange][0].take(frame)
        elif frame.kind not in (Kind.BODY, Kind.TAKEN):  # these may cross the end of their exchange
            raise ValueError("no front says that")

    def close(self) -> None:
        """The front is gone, and with it everybody who waits for an answer."""
        self._account.close()
        for exchange in (*self._questions, *self._passed):
            self._leave(exchange)

    def abandon(self) -> None:
        """Answer everybody now, whatever the work is at."""
        for question in tuple(self._questions.values()):
            question.cancel()
        for _, task in tuple(self._passed.values()):
            task.cancel()

    def _begin(self, frame: Frame) -> None:
        if frame.exchange in self._questions or frame.exchange in self._passed:
            raise ValueError(f"exchange {frame.exchange} has begun already")
        try:
            (self._ask if frame.kind == Kind.ASK else self._open)(frame)
        except Exception:  # a client waits, whatever is wrong with the frame, and the front keeps a slot
            error = RequestError("the request was lost between processes; the log has it")
            self._link.send(Kind.REFUSAL if frame.kind == Kind.ASK else Kind.END, frame.exchange, pack_refusal(error))
            raise

    def _ask(self, frame: Frame) -> None:
        (ask, file), transforms = read_ask(frame.payload), self._office.transforms
        transforms.renew()
        if ask.transform != transforms.current.number or transforms.current.preprocessing is None:
            self._link.send(Kind.TRANSFORM, 0, transforms.current.model_dump_json().encode())
            self._link.send(Kind.AGAIN, frame.exchange)
            return
        pixels = self._slots.view(ask.slot, (*transforms.current.preprocessing.crop, 3))
        repository = self._office.repository
        try:
            question = Question(repository.ready(repository.default), ask, file, partial(self._reply, frame.exchange))
        except RequestError as error:
            self._link.send(Kind.REFUSAL, frame.exchange, pack_refusal(error))
            return
        self._questions[frame.exchange] = question
        self._office.tasks.add(question)
        question.submit(pixels)

    def _reply(self, exchange: int, question: Question, reply: Reply) -> None:
        del self._questions[exchange]
        self._office.tasks.discard(question)
        if reply.error:
            self._link.send(Kind.REFUSAL, exchange, pack_refusal(reply.error))
        else:
            self._link.send(Kind.ANSWER, exchange, b"\1" if reply.accepted else b"\0", reply.document)

    def _open(self, frame: Frame) -> None:
        request = PassedRequest(self._link, frame.exchange, read_scope(frame.payload))
        task = asyncio.get_running_loop().create_task(request.answer(self._office.app))
        self._passed[frame.exchange] = request, task
        self._office.tasks.add(task)
        task.add_done_callback(partial(self._end, frame.exchange))

    def _end(self, exchange: int, task: asyncio.Task[None]) -> None:
        del self._passed[exchange]
        self._office.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("unexpected error", exc_info=error)
        self._link.send(Kind.END, exchange)

    def _leave(self, exchange: int) -> None:
        """Nobody waits any more: a picture is given up, an application hears of it and decides itself."""
        if exchange in self._questions:
            self._questions[exchange].cancel()
        elif exchange in self._passed:
            self._passed[exchange][0].leave()

"""One picture that a front has opened, in the queue of the device process: the promise of its answer.

No task waits for it: the device process does nothing for a request of a front but what this file and the queue do.
"""

from asyncio import AbstractEventLoop, TimerHandle, get_running_loop
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import orjson
import structlog
from numpy.typing import NDArray

from oodgate.answers import Answer
from oodgate.api import render
from oodgate.api.handlers import cut_short, unexpected
from oodgate.api.judging import Judgement
from oodgate.api.origin import Origin, hash_of_client
from oodgate.api.predictor import Predictor
from oodgate.errors import RequestError
from oodgate.fronts.messages import Ask
from oodgate.images.opening import Opened

log = structlog.stdlib.get_logger("oodgate")


@dataclass(frozen=True)
class Reply:
    """What a front is told of a picture: that it is accepted or not, with its document, or why there is none."""

    accepted: bool = False
    document: bytes = b""
    error: RequestError | None = None


class Question:
    """Gets one reply, whatever happens."""

    def __init__(
        self, predictor: Predictor, ask: Ask, file: bytes, on_reply: Callable[["Question", Reply], None]
    ) -> None:
        self._predictor, self._ask = predictor, ask
        self._on_reply = on_reply
        remaining_ms = ask.patience_ms - 1000 * (perf_counter() - ask.began_s)
        self._origin = Origin(hash_of_client(ask.client), ask.request_id, file or None, ask.lane, remaining_ms)
        self._loop = get_running_loop()
        self._expiry: TimerHandle | None = None
        self._done = False

    def submit(self, pixels: NDArray[np.uint8]) -> None:
        """Queue the picture; where that is refused, the refusal is the reply."""
        self._predictor.hold()
        self._expiry = self._loop.call_later(self._predictor.patience_ms(self._origin) / 1000, self._expire)
        try:
            self._predictor.submit(Opened(pixels, self._ask.decode_ms), self, self._origin)
        except Exception as error:
            self.set_exception(error)

    def cancel(self, msg: object = None) -> None:
        """Give it up: nobody waits any more, or the time to drain is over and uvicorn ends what it believes a task."""
        self._loop.call_soon(self._give_up, cut_short())

    def get_loop(self) -> AbstractEventLoop:
        """The loop on which it was asked."""
        return self._loop

    def done(self) -> bool:
        """Whether nobody waits for an answer any more."""
        return self._done

    def set_result(self, answer: Answer[Judgement], /) -> None:
        """The image has been judged."""
        try:
            judged = self._predictor.conclude(answer, self._origin, self._ask.began_s)
            document = render.prediction(judged, self._predictor.gate, self._ask.top_k, self._ask.request_id)
            self._reply(Reply(judged.verdict.accepted, orjson.dumps(document)))
        except Exception as error:  # the front waits for a reply, and keeps the slot until it comes
            self.set_exception(error)

    def set_exception(self, error: BaseException, /) -> None:
        """The image has not been judged."""
        if not isinstance(error, RequestError):
            log.error("unexpected error", exc_info=error, request_id=self._ask.request_id)
            error = unexpected()
        self._reply(Reply(error=error))

    def _expire(self) -> None:
        self._give_up(self._predictor.too_late(self._origin))

    def _give_up(self, error: RequestError) -> None:
        if not self._done:
            self._predictor.withdraw(self)
            self._reply(Reply(error=error))

    def _reply(self, reply: Reply) -> None:
        self._done = True
        if self._expiry:
            self._expiry.cancel()
        self._predictor.let_go()
        self._on_reply(self, reply)

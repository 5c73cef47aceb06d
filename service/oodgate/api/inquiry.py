"""The image of a plain request on its way to whoever judges it: a model of this process, or another process."""

from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol

import orjson
from starlette.types import Scope

from oodgate.answers import Answer, Promise
from oodgate.api import render
from oodgate.api.judging import Judgement
from oodgate.api.origin import origin_of
from oodgate.api.predict import file_picture
from oodgate.api.predictor import Predictor
from oodgate.api.repository import Repository
from oodgate.errors import RequestError


@dataclass(frozen=True, slots=True)
class Answered:
    """The document of a prediction, and the word for its decision."""

    document: bytes
    decision: str


class Inquiry(Protocol):
    """One image. Before it is submitted nothing can be asked about it; in the end it is closed once."""

    @property
    def patience_ms(self) -> float:
        """How long its client waits for the answer."""

    def submit(self, data: bytes, promise: Promise[Any], /) -> None:
        """Have an image file judged; raises the RequestError that says why not, or the promise is kept."""

    def conclude(self, answer: Any, /) -> Answered:
        """What the promise was kept with -> what the client is told."""

    def too_late(self) -> RequestError:
        """What is said where its time is over."""

    def withdraw(self, promise: Promise[Any], /) -> None:
        """Nobody waits for the answer any more."""

    def close(self) -> None:
        """Its request has been answered."""


class OwnInquiry:
    """An image for the default model of this process."""

    def __init__(self, repository: Repository, scope: Scope, request_id: str, top_k: int) -> None:
        """Raises the RequestError with which the image would be refused now."""
        self._repository, self._top_k = repository, top_k
        self._origin = origin_of(scope, request_id)
        self._predictor = self._ready()
        self._predictor.check_room(self._origin)
        self._submitted_s = 0.0

    @property
    def patience_ms(self) -> float:  # noqa: D102
        return self._predictor.patience_ms(self._origin)

    def submit(self, data: bytes, promise: Promise[Answer[Judgement]]) -> None:  # noqa: D102
        self._origin = self._origin._replace(file=data)
        self._predictor = self._ready()  # another than before, where the model was loaded meanwhile
        self._predictor.submit(file_picture(data, self._repository.settings), promise, self._origin)
        self._predictor.hold()
        self._submitted_s = perf_counter()

    def conclude(self, answer: Answer[Judgement]) -> Answered:  # noqa: D102
        judged = self._predictor.conclude(answer, self._origin, self._submitted_s)
        document = render.prediction(judged, self._predictor.gate, self._top_k, self._origin.prediction_id)
        return Answered(orjson.dumps(document), str(document["decision"]))

    def too_late(self) -> RequestError:  # noqa: D102
        return self._predictor.too_late(self._origin)

    def withdraw(self, promise: Promise[Answer[Judgement]]) -> None:  # noqa: D102
        self._predictor.withdraw(promise)

    def close(self) -> None:  # noqa: D102
        if self._submitted_s:
            self._predictor.let_go()

    def _ready(self) -> Predictor:
        return self._repository.ready(self._repository.default)

"""The image of a plain request in a front: opened here, judged by the device process."""

import asyncio
from typing import Any

from starlette.types import Scope

from oodgate.answers import Promise
from oodgate.api.inquiry import Answered
from oodgate.api.kinds import Kind
from oodgate.api.origin import lane_of, patience_ms_of, told_client
from oodgate.errors import DeadlinePassed, RequestError
from oodgate.fronts.asking import Asking, Sender


class OnlyPredict:
    """The kind of the one endpoint whose requests a front answers itself."""

    def kind(self, path: str) -> Kind | None:
        """Always the same."""
        return "predict"


class FrontInquiry:
    """An image for the default model of the device process."""

    def __init__(self, asking: Asking, scope: Scope, request_id: str, top_k: int) -> None:
        """Raises the RequestError with which the image would be refused now."""
        self.patience_ms = min(patience_ms_of(scope), asking.deadline_ms)
        self._sender = Sender(request_id, told_client(scope), lane_of(scope), self.patience_ms)
        self._asking, self._top_k = asking, top_k
        self._task: asyncio.Task[Answered] | None = None
        asking.check_room(self._sender)

    def submit(self, data: bytes, promise: Promise[Answered]) -> None:  # noqa: D102
        self._task = asyncio.create_task(self._asking.judge(data, self._sender, self._top_k))
        self._task.add_done_callback(lambda done: self._keep(promise, done))

    def conclude(self, answer: Answered) -> Answered:  # noqa: D102
        return answer

    def too_late(self) -> RequestError:  # noqa: D102
        return DeadlinePassed(f"there was no answer within {self.patience_ms:g} ms")

    def withdraw(self, promise: Promise[Any]) -> None:  # noqa: D102
        if self._task:
            self._task.cancel()

    def close(self) -> None:  # noqa: D102
        pass

    def _keep(self, promise: Promise[Answered], done: "asyncio.Task[Answered]") -> None:
        """Keep the promise as the task has ended, where anybody waits."""
        error = None if done.cancelled() else done.exception()
        if done.cancelled() or promise.done():
            return
        if isinstance(error, RequestError):
            error.__traceback__ = None  # it would keep the image alive
        if error:  # the device process may be first to notice that it is too late, and knows less of the client's time
            promise.set_exception(self.too_late() if isinstance(error, DeadlinePassed) else error)
        else:
            promise.set_result(done.result())

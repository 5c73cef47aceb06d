"""HTTP of the service: its bounds, and a lane for plain requests."""

from typing import Any, cast

from starlette.types import Scope
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from oodgate.api.express import Express, Lane
from oodgate.api.plain import plain_top_k
from oodgate.api.protocol import BoundedProtocol
from oodgate.deadline import Deadline


class ServiceProtocol(BoundedProtocol):
    """Hands plain requests to their lane, and all others to the application."""

    cycle: Any  # uvicorn's own, or one that has what uvicorn wants of it

    def __init__(self, *given: Any, lane: Lane, **named: Any) -> None:
        """`lane` beside what uvicorn gives."""
        super().__init__(*given, **named)
        self._lane = lane
        self.deadline = Deadline(self.loop)  # of the plain request that is being answered
        self._answering: Any = None  # the cycle that is, behind which others may wait

    def connection_lost(self, exc: Exception | None) -> None:
        """The client left."""
        super().connection_lost(exc)
        if self._answering is not self.cycle and not self._answering.response_complete:
            self._answering.disconnected = True  # uvicorn tells the newest alone
            self._answering.message_event.set()
        self.deadline.close()

    def on_body(self, body: bytes) -> None:
        """A part of the body, which whoever answers bounds."""
        if isinstance(self.cycle, Express):
            self._waiting = 0
            self.cycle.receive(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The end of the body."""
        if isinstance(self.cycle, Express) and not self._head_again:
            self.cycle.received()
        else:
            super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        # A request that came before the last was answered, or whose client does not read answers, takes the other way.
        unusual = cycle is not self.cycle or bool(cycle.body) or not cycle.more_body or self.flow.write_paused
        unusual |= self.expect_100_continue
        top_k = plain_top_k(cast(Scope, self.scope)) if self._lane.is_open() and not unusual else None
        if top_k is None:
            self._answering = cycle
            super()._start_asgi_task(cycle, app)
            return
        self.cycle = self._answering = Express(self._lane, self, cycle.keep_alive, top_k)
        self.cycle.begin()

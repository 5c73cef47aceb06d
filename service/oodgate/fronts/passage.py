"""Requests that a front does not answer itself: it passes them on to the application in the device process, and back.

A part of a body is fetched from the client when the application wants it, and the application goes on when a part of
its answer is on its way: neither process ever holds more of a body than the application would.
"""

import asyncio

from starlette.types import Receive, Scope, Send

from oodgate.api.access import REQUEST_ID, choose_request_id
from oodgate.api.handlers import error_response
from oodgate.errors import RequestError
from oodgate.fronts.exchanges import Exchanges, gone
from oodgate.fronts.messages import pack_body, pack_scope, read_body, read_start
from oodgate.fronts.wire import Frame, Kind


class Passage:
    """An application that is the one of the device process."""

    def __init__(self, exchanges: Exchanges) -> None:
        self._exchanges = exchanges

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102
        frames: asyncio.Queue[Frame | None] = asyncio.Queue()
        try:
            number = self._exchanges.begin(Kind.OPEN, frames.put_nowait, pack_scope(scope))
        except RequestError as error:
            await answer_instead(error, scope, receive, send)
            return
        if not await self._carry(number, frames, receive, send):
            await answer_instead(gone(), scope, receive, send)

    async def _carry(self, number: int, frames: "asyncio.Queue[Frame | None]", receive: Receive, send: Send) -> bool:
        """Carry everything to and fro until the end; returns whether the client has heard anything."""
        begun, fetching = False, set[asyncio.Task[None]]()
        try:
            while (frame := await frames.get()) and frame.kind != Kind.END:
                if frame.kind == Kind.WANT:
                    task = asyncio.create_task(self._fetch(number, receive))
                    fetching.add(task)
                    task.add_done_callback(fetching.discard)
                elif frame.kind == Kind.START:
                    begun = True
                    await send(read_start(frame.payload))
                elif frame.kind == Kind.PART:
                    await send(read_body("http.response.body", frame.payload))
                    self._exchanges.say(Kind.TAKEN, number)
            return begun
        finally:
            self._exchanges.say(Kind.LEFT, number)  # if it has not ended, nobody waits for it any more
            for task in fetching:
                task.cancel()

    async def _fetch(self, number: int, receive: Receive) -> None:
        message = await receive()
        if message["type"] == "http.request":
            self._exchanges.say(Kind.BODY, number, *pack_body(message))
        else:
            self._exchanges.say(Kind.LEFT, number)


async def answer_instead(error: RequestError, scope: Scope, receive: Receive, send: Send) -> None:
    """The answer to a request that the device process never heard of."""
    request_id = choose_request_id(scope)
    response = error_response(error, scope["path"], request_id)
    response.headers[REQUEST_ID] = request_id
    await response(scope, receive, send)

"""A request that a front passed on, as the application sees it."""

import asyncio
from functools import partial

from starlette.types import ASGIApp, Message, Scope

from oodgate.fronts.link import Link
from oodgate.fronts.messages import pack_body, pack_start, read_body
from oodgate.fronts.wire import Frame, Kind


class PassedRequest:
    """Receives from a client and sends to it by way of its front."""

    def __init__(self, link: Link, exchange: int, scope: Scope) -> None:
        self._say = partial(self._send_to, link, exchange)
        self._scope = scope
        self._came: asyncio.Queue[Message] = asyncio.Queue()
        self._taken = asyncio.Event()
        self._wanted = self._left = False

    async def answer(self, service: ASGIApp) -> None:
        """Let the application answer."""
        await service(self._scope, self._receive, self._send)

    def take(self, frame: Frame) -> None:
        """What the front says of the request; raises ValueError where that makes no sense."""
        if frame.kind == Kind.TAKEN:
            self._taken.set()
        elif frame.kind == Kind.BODY and self._wanted and self._came.empty():
            self._came.put_nowait(read_body("http.request", frame.payload))
        else:
            raise ValueError("nobody wants it")

    def leave(self) -> None:
        """The client is gone; the application hears of it when it asks."""
        self._left = True
        self._taken.set()
        self._came.put_nowait({"type": "http.disconnect"})

    async def _receive(self) -> Message:
        if self._left and self._came.empty():
            return {"type": "http.disconnect"}
        if not self._wanted:  # the last one who asked may have been cancelled before there was an answer
            self._wanted = True
            self._say(Kind.WANT)
        message = await self._came.get()
        self._wanted = False
        return message

    async def _send(self, message: Message) -> None:
        if self._left:
            return
        if message["type"] == "http.response.start":
            self._say(Kind.START, pack_start(message))
            return
        self._taken.clear()
        self._say(Kind.PART, *pack_body(message))
        await self._taken.wait()

    @staticmethod
    def _send_to(link: Link, exchange: int, kind: Kind, *parts: bytes) -> None:
        link.send(kind, exchange, *parts)

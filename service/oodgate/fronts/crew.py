"""The fronts of a service: started, started again where one dies, ended together."""

import asyncio
import os
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable
from contextlib import suppress

import structlog

from oodgate.errors import SetupError
from oodgate.fronts.desk import Desk, Office
from oodgate.fronts.link import Link
from oodgate.fronts.slots import Slots
from oodgate.fronts.wire import Frame, Kind

_REST_S = 0.5  # before a front that died is started again, so that one that cannot live does not keep a core busy
_GRACE_S = 1.0

log = structlog.stdlib.get_logger("oodgate")


class Post:
    """The place of one front, which one process after the other may fill."""

    def __init__(self, number: int, listening: socket.socket, slots: Slots) -> None:
        self.number = number
        self.listening = listening
        self.slots = slots
        self.up = asyncio.Event()
        self.process: Process | None = None
        self.link: Link | None = None
        self.desk: Desk | None = None

    async def run(self, office: Office, most_bytes: int, welcome: bytes) -> int:
        """One life of a front, from its start to its end; returns its exit status."""
        own, others = socket.socketpair()
        own.setblocking(False)
        gone = asyncio.Event()
        self.link = link = Link(most_bytes, self._take, gone.set)
        self.desk = desk = Desk(office, link, self.slots)
        await asyncio.get_running_loop().create_unix_connection(lambda: link, sock=own)
        try:
            with others:
                self.process = await start(others.fileno(), self.slots.descriptor, self.listening.fileno())
            link.send(Kind.WELCOME, 0, welcome)
            await gone.wait()  # before the process's end, where it has closed this in the end or by a fault
        finally:
            self.up.clear()
            link.close()
            desk.close()
        return await self._ended(self.process)

    def tell(self, kind: Kind, *parts: bytes) -> None:
        """Say something to the front, if there is one."""
        if self.link:
            self.link.send(kind, 0, *parts)

    async def end(self) -> None:
        """Have everybody answered, and the process killed where it does not end by itself."""
        if self.desk:
            self.desk.abandon()
        if self.process:
            await self._ended(self.process)

    async def _ended(self, process: Process) -> int:
        with suppress(TimeoutError):
            async with asyncio.timeout(_GRACE_S):
                return await process.wait()
        with suppress(ProcessLookupError):
            process.kill()
        return await process.wait()

    def _take(self, frame: Frame) -> None:
        if frame.kind == Kind.UP:
            self.up.set()
        elif self.desk:
            self.desk.take(frame)


class Crew:
    """All fronts."""

    def __init__(self, office: Office, posts: list[Post], most_bytes: int, welcome: Callable[[Post], bytes]) -> None:
        """`welcome` is what a front is told first; it runs for each one that is started."""
        self._office = office
        self._posts = posts
        self._most_bytes = most_bytes
        self._welcome = welcome
        self._stopping = False
        self._watches: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start all; returns when they listen. Raises SetupError where one does not come that far."""
        self._watches = [asyncio.create_task(self._watch(post)) for post in self._posts]
        up = asyncio.gather(*(post.up.wait() for post in self._posts))
        await asyncio.wait([up, *self._watches], return_when=asyncio.FIRST_COMPLETED)
        if not up.done():
            up.cancel()
            raise SetupError("a front process ended before it listened; its last words are above")
        self._look()

    @property
    def processes(self) -> list[int]:
        """The process ids of the fronts that live."""
        found = [post.process for post in self._posts if post.process]
        return [process.pid for process in found if process.returncode is None]

    def tell(self, kind: Kind, *parts: bytes) -> None:
        """Say something to all fronts."""
        for post in self._posts:
            post.tell(kind, *parts)

    def stop(self) -> None:
        """Let nobody in any more; each front ends when everybody whom it let in is answered."""
        self._stopping = True
        for post in self._posts:
            post.listening.close()
        self.tell(Kind.STOP)

    async def ended(self) -> None:
        """Wait until all have ended."""
        await asyncio.wait(self._watches)

    async def end(self) -> None:
        """End those that have not ended yet."""
        await asyncio.gather(*(post.end() for post in self._posts))

    async def _watch(self, post: Post) -> None:
        """Have a front at the post until the crew stops; the first one has to come as far as to listen."""
        while True:
            running = asyncio.create_task(post.run(self._office, self._most_bytes, self._welcome(post)))
            was_up = await self._wait_up(post, running)
            status = await running
            self._look()
            if self._stopping or not (was_up or self._office.repository.complete):
                return
            log.error("a front ended and is started again", front=post.number, status=status)
            await asyncio.sleep(_REST_S)

"""The place of one front, which one process after the other may fill."""

import asyncio
import os
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import structlog

from oodgate.fronts.desk import Desk, Office
from oodgate.fronts.link import Link
from oodgate.fronts.slots import Slots
from oodgate.fronts.wire import MOST_BYTES, Frame, Kind

_GRACE_S = 1.0
_BESIDE_A_FILE = 2**20

log = structlog.stdlib.get_logger("oodgate")


@dataclass(frozen=True)
class Place:
    """What outlives a front: clients who come while there is none wait for the next."""

    number: int
    listening: socket.socket
    slots: Slots


class Post:
    """Starts a front and is there for it as long as it lives."""

    def __init__(
        self, place: Place, office: Office, welcome: Callable[[], bytes], on_change: Callable[[], None]
    ) -> None:
        """`welcome` is what a front is told first; `on_change` hears when `up` is another."""
        self.place = place
        self.up = self.has_been_up = False
        self._office, self._welcome, self._on_change = office, welcome, on_change
        self._stopping = False
        self._process: Process | None = None
        self._link: Link | None = None
        self._desk: Desk | None = None

    async def run(self) -> int | None:
        """One life of a front; returns its exit status, or None where it cannot be started."""
        own, other = socket.socketpair()
        gone = asyncio.Event()
        link = Link(max(MOST_BYTES, self._office.repository.settings.max_bytes + _BESIDE_A_FILE), self._take, gone.set)
        desk = Desk(self._office, link, self.place.slots)
        self._link, self._desk = link, desk
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: link, sock=own)
            with other:
                self._process = await self._start(other.fileno())
            link.send(Kind.WELCOME, 0, self._welcome())
            if self._stopping:
                link.send(Kind.STOP)
            await gone.wait()
        except (OSError, ValueError) as error:  # the second where it has been stopped meanwhile
            log.error("a front cannot be started", front=self.place.number, reason=str(error))
            return None
        finally:
            self._change(False)
            link.close()
            desk.close()
        return await self._ended()

    def tell(self, kind: Kind, payload: bytes = b"") -> None:
        """Say something to the front, if there is one."""
        if self._link:
            self._link.send(kind, 0, payload)

    def stop(self) -> None:
        """Let nobody in any more; the front ends when everybody whom it let in is answered."""
        self._stopping = True
        self.place.listening.close()
        self.tell(Kind.STOP)

    async def end(self) -> None:
        """Have everybody answered, and the process killed where it does not end by itself."""
        if self._desk:
            self._desk.abandon()
        await self._ended()

    @property
    def pid(self) -> int | None:
        """The process that is there now."""
        return self._process.pid if self._process else None

    async def _start(self, link: int) -> Process:
        inherited = (link, self.place.slots.descriptor, self.place.listening.fileno())
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "oodgate.fronts.front", *map(str, inherited)),
            stdin=DEVNULL,
            pass_fds=inherited,
            start_new_session=True,  # a terminal's signals are for this process
            # The same modules as here; and pictures that are opened side by side need no threads for each.
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"},
        )

    async def _ended(self) -> int | None:
        process = self._process
        if process is None:
            return None
        with suppress(TimeoutError):
            return await asyncio.wait_for(process.wait(), _GRACE_S)
        with suppress(ProcessLookupError):
            process.kill()
        return await process.wait()

    def _take(self, frame: Frame) -> None:
        if frame.kind == Kind.UP:
            self.has_been_up = True
            self._change(True)
        elif self._desk:
            self._desk.take(frame)

    def _change(self, up: bool) -> None:
        self.up = up
        self._on_change()

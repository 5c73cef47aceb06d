"""The device process of a service with fronts: it has the models and everything that there is once, and no clients.

    client - HTTP - front - pixels in shared memory, frames on a pair of sockets - device process

What a front does not do itself it passes on, and the same application answers as in a service of one process.
"""

import asyncio
import os
import socket
from math import ceil
from typing import cast

import structlog
from starlette.types import ASGIApp

from oodgate.api import server
from oodgate.api.server import DrainingServer
from oodgate.cores import available_cores
from oodgate.errors import SetupError
from oodgate.fronts.crew import Crew
from oodgate.fronts.desk import Office
from oodgate.fronts.messages import Transform, Welcome
from oodgate.fronts.ports import share
from oodgate.fronts.post import Place
from oodgate.fronts.slots import Slots
from oodgate.fronts.transforms import Transforms
from oodgate.fronts.wire import Kind
from oodgate.settings import Settings

log = structlog.stdlib.get_logger("oodgate")


def serve(settings: Settings) -> None:
    """Serve until a signal comes, with fronts where there are some to be; raises SetupError as `api.server`'s."""
    if settings.fronts and (obstacle := obstacle_to_fronts(settings)):
        raise SetupError(obstacle)
    server.serve(settings, DeviceServer if settings.fronts else DrainingServer)


def obstacle_to_fronts(settings: Settings) -> str | None:
    """Why there can be no fronts here with these settings, and what to do; None where there can."""
    if not hasattr(os, "memfd_create"):
        return "fronts need Linux; serve without them"
    if settings.decoding == "device":
        return "fronts decode images themselves; serve without them, or decode on the host"
    return None


class DeviceServer(DrainingServer):
    """Has fronts listen in its place; operators' own port, if there is one, stays with it."""

    _crew: Crew
    _transforms: Transforms

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the fronts; raises SetupError where the address is not free or one of them does not come up."""
        await super().startup([])
        settings = self._repository.settings
        self._transforms = Transforms(self._repository, self._tell)
        try:
            listening = share(settings.host, settings.port, settings.fronts)
            self._crew = self._assemble(listening)
            await self._start()
        except SetupError:
            await self.lifespan.shutdown()
            raise
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        scheme = "https" if self.config.ssl else "http"
        log.info(f"running on {scheme}://{host}:{listening[0].getsockname()[1]}", fronts=settings.fronts)

    async def on_tick(self, counter: int) -> bool:
        """Whether to leave the main loop; uvicorn asks ten times a second."""
        self._transforms.renew()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Have the fronts stop listening, wait for the work in flight, then end everything."""
        self._crew.stop()
        ended = asyncio.create_task(self._crew.ended())
        self.server_state.tasks.add(ended)
        ended.add_done_callback(self.server_state.tasks.discard)
        await super().shutdown(sockets)
        await self._crew.end()

    def _assemble(self, listening: list[socket.socket]) -> Crew:
        app = cast("ASGIApp", self.config.app)  # without uvicorn's proxies: the fronts know whom a proxy speaks for
        office = Office(app, self._repository, self._transforms, self.server_state.tasks)
        places = [Place(number, one, Slots.create(self._transforms.shape)) for number, one in enumerate(listening)]
        return Crew(places, office, self._welcome)

    async def _start(self) -> None:
        try:
            await self._crew.start()
        except SetupError:
            self._crew.stop()
            await self._crew.end()
            raise

    def _welcome(self) -> bytes:
        settings, shape = self._repository.settings, self._transforms.shape
        welcome = Welcome(
            settings=settings,
            slots=shape.count,
            slot_bytes=shape.size,
            threads=settings.decode_threads or ceil(available_cores() / settings.fronts),
            keeps_files=bool(settings.quarantine),
            transform=self._transforms.current,
        )
        return welcome.model_dump_json().encode()

    def _tell(self, transform: Transform) -> None:
        self._crew.tell(Kind.TRANSFORM, transform.model_dump_json().encode())

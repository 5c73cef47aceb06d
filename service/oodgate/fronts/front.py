"""A front: the process that speaks HTTP with clients and opens their pictures, and has no models.

    python -m oodgate.fronts.front LINK SLOTS LISTENING

The arguments are descriptors that it inherits. It has no will of its own: it begins when the device process has told
it everything, and ends when that says so, or is gone. Signals are for the device process, which decides on all ends.
"""

import asyncio
import os
import socket
import sys
from functools import partial
from types import FrameType
from typing import cast

import numpy as np
import uvicorn
import uvloop

from oodgate.api.accounts import Accounts
from oodgate.api.checks import believing, checks_of
from oodgate.api.express import Lane
from oodgate.api.key_ring import KeyRing
from oodgate.api.listening import allow_descriptors, server_config
from oodgate.api.service_protocol import ServiceProtocol
from oodgate.fronts.asking import Asking
from oodgate.fronts.exchanges import Exchanges
from oodgate.fronts.inquiry import FrontInquiry, OnlyPredict
from oodgate.fronts.link import Link
from oodgate.fronts.messages import Transform, Welcome
from oodgate.fronts.passage import Passage
from oodgate.fronts.reports import ReportedMetrics, Reports
from oodgate.fronts.slots import Shape, Slots
from oodgate.fronts.wire import MOST_BYTES, Frame, Kind
from oodgate.images.preprocess import preprocess, resized_size
from oodgate.memory import settle
from oodgate.observability.logs import configure_logs
from oodgate.observability.metrics import Metrics
from oodgate.settings import Settings

_LINGER_S = 0.7  # for answers to those whose request the device process will not answer any more
_DRAIN_MARGIN_S = 5.0  # the device process gives up first, and tells everybody


class FrontServer(uvicorn.Server):
    """uvicorn, which ends when the device process says so."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Nothing: a terminal sends its signals to all processes."""


class Front:
    """What the device process says, and what comes of it."""

    def __init__(self) -> None:
        self.link = Link(MOST_BYTES, self._take, self._end)
        self._welcomed: asyncio.Future[Welcome] = asyncio.get_running_loop().create_future()
        self._transform: Transform | None = None  # newer than the welcome's
        self._exchanges = Exchanges(self.link)
        self._asking: Asking | None = None
        self._server: FrontServer | None = None

    async def serve(self, slots_descriptor: int, listening: socket.socket) -> None:
        """Serve until the device process ends it."""
        welcome = await self._welcomed
        settings = welcome.settings
        configure_logs(settings.log_format, settings.log_level)
        slots = Slots(slots_descriptor, Shape(welcome.slots, welcome.slot_bytes))
        transform = self._transform or welcome.transform
        warm_up(transform)
        self._asking = asking = Asking(
            settings, self._exchanges, slots, transform, welcome.threads, welcome.keeps_files
        )
        keys = KeyRing(settings.api_keys) if settings.api_keys else None
        lane = lane_of_front(settings, asking, keys, ReportedMetrics(Reports(self.link)))
        config = server_config(Passage(self._exchanges), partial(ServiceProtocol, lane=lane), settings)
        config.lifespan = "off"
        config.timeout_graceful_shutdown = round(settings.drain_timeout_ms / 1000 + _DRAIN_MARGIN_S)
        self._server = FrontServer(config)
        serving = asyncio.create_task(self._server.serve([listening]))
        watching = asyncio.create_task(keys.watch()) if keys else None
        while not (self._server.started or serving.done()):
            await asyncio.sleep(0.01)
        settle()
        self.link.send(Kind.UP)
        await serving
        if watching:
            watching.cancel()

    def _take(self, frame: Frame) -> None:
        if frame.kind == Kind.WELCOME:
            self._welcomed.set_result(Welcome.model_validate_json(frame.payload))
        elif frame.kind == Kind.TRANSFORM:
            self._change(Transform.model_validate_json(frame.payload))
        elif frame.kind == Kind.STOP:
            self._stop()
        else:
            self._exchanges.take(frame)

    def _change(self, transform: Transform) -> None:
        self._transform = transform
        if self._asking:
            self._asking.transform = transform

    def _stop(self) -> None:
        if self._server:
            self._server.should_exit = True
        else:
            os._exit(0)

    def _end(self) -> None:
        """The device process is gone: who waits is told, and nothing is left to do."""
        self._exchanges.end()
        asyncio.get_running_loop().call_later(_LINGER_S, os._exit, 1)
        self._stop()


def lane_of_front(settings: Settings, asking: Asking, keys: KeyRing | None, metrics: ReportedMetrics) -> Lane:
    """The lane of plain requests: they pass what they pass in a service of one process, and count as there."""
    accounts = Accounts(cast("Metrics", metrics))
    checks = [*believing(settings.proxies), *checks_of(settings, OnlyPredict(), keys)]
    return Lane(settings, accounts, partial(FrontInquiry, asking), checks, lambda: asking.able)


def warm_up(transform: Transform) -> None:
    """Bring along now what the first picture would have to wait for."""
    if transform.preprocessing:
        width, height = resized_size((1, 1), transform.preprocessing.resize)
        preprocess(np.zeros((height + 1, width + 1, 3), np.uint8), transform.preprocessing)


async def run(link: int, slots: int, listening: int) -> None:
    """Connect and serve."""
    front = Front()
    await asyncio.get_running_loop().create_unix_connection(lambda: front.link, sock=socket.socket(fileno=link))
    await front.serve(slots, socket.socket(fileno=listening))


def main() -> None:
    """Be a front until the end."""
    allow_descriptors()
    uvloop.run(run(*map(int, sys.argv[1:])))
    # Threads may be at pictures that nobody waits for any more.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()

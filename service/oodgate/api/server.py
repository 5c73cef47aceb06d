"""uvicorn around the application, with a drain that a load balancer can see."""

import asyncio
import math
import os
import socket
import sys
from functools import partial
from time import monotonic
from types import FrameType

import uvicorn

from oodgate.api.app import create_metrics, create_service
from oodgate.api.key_ring import KeyRing
from oodgate.api.listening import allow_descriptors, cannot_listen, check_certificate, listen, server_config
from oodgate.api.repository import Repository
from oodgate.api.service_protocol import ServiceProtocol
from oodgate.model import use_threads
from oodgate.observability.logs import configure_logs
from oodgate.settings import Settings

# Python's own is ten times as long: so long may a worker that has its forward wait while the loop writes answers.
_SWITCH_INTERVAL_S = 0.0005


class DrainingServer(uvicorn.Server):
    """On the first signal readiness turns off while the port stays open; then the work in flight ends; exit 0."""

    def __init__(
        self, config: uvicorn.Config, repository: Repository, admin_socket: socket.socket | None = None
    ) -> None:
        """The service listens on the socket for operators too, where there is one."""
        super().__init__(config)
        self._repository = repository
        self._admin_socket = admin_socket
        self._stop_at = math.inf  # monotonic seconds

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Start to drain; a second signal stops at once."""
        self.force_exit = self._repository.draining
        self._repository.draining = True
        self._stop_at = monotonic() + (0 if self.force_exit else self._repository.settings.drain_delay_ms / 1000)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen; what comes by the socket for operators is drained with all the rest."""
        await super().startup(sockets)
        if self._admin_socket:
            made = self.config.http_protocol_class
            protocol = partial(made, self.config, self.server_state, self.lifespan.state)  # type: ignore[call-arg]
            create_server = asyncio.get_running_loop().create_server
            self.servers.append(await create_server(protocol, sock=self._admin_socket, ssl=self.config.ssl))

    async def on_tick(self, counter: int) -> bool:
        """Whether to leave the main loop; uvicorn asks ten times a second."""
        self._repository.check_forwards()
        return await super().on_tick(counter) or monotonic() >= self._stop_at or self._repository.hangs

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, wait for the work in flight, then end the threads; uvicorn forgets both when it is forced."""
        await super().shutdown(sockets)
        if self.force_exit:
            for task in tuple(self.server_state.tasks):
                task.cancel()
            await self.lifespan.shutdown()


def serve(settings: Settings, kind: type[DrainingServer] = DrainingServer) -> None:
    """Serve until a signal comes; raises SetupError where a file, a bundle, the device or an address is not fit."""
    configure_logs(settings.log_format, settings.log_level)
    allow_descriptors()
    share_interpreter()
    use_threads(settings.threads)
    check_certificate(settings)
    listen(settings.host, settings.port).close()  # an address that is not free is told before models are measured
    keys = KeyRing(settings.api_keys) if settings.api_keys else None
    admin_socket = listen(settings.host, settings.admin_port) if settings.admin_port else None
    repository = Repository(settings, create_metrics())
    service = create_service(repository, keys)
    config = server_config(service.app, partial(ServiceProtocol, lane=service.lane), settings)
    try:
        kind(config, repository, admin_socket).run()
    except SystemExit as error:  # uvicorn's way out when it cannot listen; it has logged why
        raise cannot_listen(settings.host, settings.port) from error
    leave_abandoned_forward(repository)


def share_interpreter() -> None:
    """Let threads that want Python's lock have it soon."""
    sys.setswitchinterval(_SWITCH_INTERVAL_S)


def leave_abandoned_forward(repository: Repository) -> None:
    """Exit with status 1 where a forward hangs, or a worker is still inside one that nobody waits for."""
    if repository.hangs or not repository.ended:
        sys.stderr.flush()
        os._exit(1)  # the interpreter's own way out crashes on a thread that runs native code

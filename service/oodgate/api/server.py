"""uvicorn around the application, with a drain that a load balancer can see."""

import math
import os
import socket
import sys
from time import monotonic
from types import FrameType

import uvicorn

from oodgate.api.app import create_metrics, create_service
from oodgate.api.repository import Repository
from oodgate.errors import SetupError
from oodgate.model import use_threads
from oodgate.observability.logs import configure_logs
from oodgate.settings import Settings


class DrainingServer(uvicorn.Server):
    """On the first signal readiness turns off while the port stays open; then the work in flight ends; exit 0."""

    def __init__(self, config: uvicorn.Config, repository: Repository) -> None:
        super().__init__(config)
        self._repository = repository
        self._stop_at = math.inf  # monotonic seconds

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Start to drain; a second signal stops at once."""
        self.force_exit = self._repository.draining
        self._repository.draining = True
        self._stop_at = monotonic() + (0 if self.force_exit else self._repository.settings.drain_delay_ms / 1000)

    async def on_tick(self, counter: int) -> bool:
        """Whether to leave the main loop; uvicorn asks ten times a second."""
        return await super().on_tick(counter) or monotonic() >= self._stop_at

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, wait for the work in flight, then end the threads; uvicorn forgets them when it is forced."""
        await super().shutdown(sockets)
        if self.force_exit:
            await self.lifespan.shutdown()


def serve(settings: Settings) -> None:
    """Serve until a signal comes; raises SetupError where a bundle, the device or the address is not fit for it."""
    configure_logs(settings.log_format, settings.log_level)
    use_threads(settings.threads)
    repository = Repository(settings, create_metrics())
    config = uvicorn.Config(
        create_service(repository),
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http="httptools",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=max(1, round(settings.drain_timeout_ms / 1000)),
    )
    try:
        DrainingServer(config, repository).run()
    except SystemExit as error:  # uvicorn's way out when it cannot listen; it has logged why
        raise SetupError(f"cannot listen on {settings.host}:{settings.port}; free it or choose another port") from error
    leave_abandoned_forward(repository)


def leave_abandoned_forward(repository: Repository) -> None:
    """Exit with status 1 where a worker is still inside a forward that nobody waits for."""
    if not repository.ended:
        sys.stderr.flush()
        os._exit(1)  # the interpreter's own way out crashes on a thread that runs native code

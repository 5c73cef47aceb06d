"""The fronts of a service: started, started again where one dies, ended together."""

import asyncio
from collections.abc import Callable, Sequence

import structlog

from oodgate.errors import SetupError
from oodgate.fronts.desk import Office
from oodgate.fronts.post import Place, Post
from oodgate.fronts.wire import Kind

_REST_S = 0.5  # before a front is started again, so that one that cannot live does not keep a core busy

log = structlog.stdlib.get_logger("oodgate")


class Crew:
    """A front at each place; the service is complete while all of them listen."""

    def __init__(self, places: Sequence[Place], office: Office, welcome: Callable[[], bytes]) -> None:
        """`welcome` is what a front is told first."""
        self._repository = office.repository
        self._posts = [Post(place, office, welcome, self._look) for place in places]
        self._stopping = False
        self._all_up = asyncio.Event()
        self._watches: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start all; returns when they listen. Raises SetupError where one does not come that far."""
        self._look()
        self._watches = [asyncio.create_task(self._watch(post)) for post in self._posts]
        all_up = asyncio.create_task(self._all_up.wait())
        await asyncio.wait([all_up, *self._watches], return_when=asyncio.FIRST_COMPLETED)
        if not all_up.done():
            all_up.cancel()
            raise SetupError("a front ended before it listened, and said why above; correct that, or serve without")

    def tell(self, kind: Kind, payload: bytes) -> None:
        """Say something to all fronts."""
        for post in self._posts:
            post.tell(kind, payload)

    def stop(self) -> None:
        """Let nobody in any more; each front ends when everybody whom it let in is answered."""
        self._stopping = True
        for post in self._posts:
            post.stop()

    async def ended(self) -> None:
        """Wait until all have ended, after `stop`."""
        await asyncio.wait(self._watches)

    async def end(self) -> None:
        """End those that have not ended yet, after `stop`."""
        await asyncio.gather(*(post.end() for post in self._posts))

    async def _watch(self, post: Post) -> None:
        """Keep a front at its post until all stop, if the first comes as far as to listen."""
        while not self._stopping:
            status = await post.run()
            if self._stopping or not post.has_been_up:
                return
            log.error("a front ended and is started again", front=post.place.number, status=status)
            await asyncio.sleep(_REST_S)

    def _look(self) -> None:
        self._repository.complete = all(post.up for post in self._posts)
        if self._repository.complete:
            self._all_up.set()

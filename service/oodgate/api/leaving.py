"""Work that ends when nobody is there to read its result."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from fastapi import Request

from oodgate.errors import ClientLeft

Returned = TypeVar("Returned")

_WATCH_AFTER_S = 0.02  # most answers come sooner, and a watch costs as much as the rest of a small request


async def unless_client_leaves(request: Request, work: Awaitable[Returned]) -> Returned:
    """The result of the work, which is cancelled when the client closes the connection; raises ClientLeft then."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    left = False

    async def watch() -> None:
        nonlocal left
        await client_leaves(request)
        left = True
        task.cancel()  # type: ignore[union-attr]  # a coroutine runs in a task

    watches: list[asyncio.Task[None]] = []
    start = loop.call_later(_WATCH_AFTER_S, lambda: watches.append(loop.create_task(watch())))
    try:
        return await work
    except asyncio.CancelledError:
        if left and task.uncancel() == 0:  # type: ignore[union-attr]
            raise client_left() from None
        raise
    finally:
        start.cancel()
        for started in watches:
            started.cancel()


def client_left() -> ClientLeft:
    """What is counted where nobody is there to be answered."""
    return ClientLeft("the client left before its answer was ready")


async def client_leaves(request: Request) -> None:
    """Return when the client has closed the connection; the body has been read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass

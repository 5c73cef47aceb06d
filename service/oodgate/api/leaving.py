"""Work that ends when nobody is there to read its result."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from fastapi import Request

from oodgate.errors import ClientLeft

Returned = TypeVar("Returned")


async def unless_client_leaves(request: Request, work: Awaitable[Returned]) -> Returned:
    """The result of the work, which is given up when the client closes the connection."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(client_leaves(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientLeft("the client left before its answer was ready")
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()


async def client_leaves(request: Request) -> None:
    """Return when the client has closed the connection; the body has been read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass

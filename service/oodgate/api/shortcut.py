"""The way of most requests, one image for the default model, past the layers of the web framework.

The framework's routing and parameters cost more than everything else that the service itself does for an image. It
still documents this endpoint, and takes every request to it that is not plain.
"""

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from oodgate.api.plain import PATH, plain_top_k
from oodgate.api.predict import answer_image
from oodgate.api.repository import Repository


class Shortcut:
    """Answers plain requests to predict itself and hands on all others."""

    path = PATH

    def __init__(self, app: ASGIApp, repository: Repository) -> None:
        self._app = app
        self._repository = repository

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102
        top_k = plain_top_k(scope)
        if top_k is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = self
        response = await answer_image(Request(scope, receive), self._repository, self._repository.default, top_k)
        await response(scope, receive, send)

"""The application of a front: plain requests to predict are answered here, all others by the device process.

A plain request passes the same layers as in a service of one process: access, doors, authorisation.
"""

from typing import cast

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from oodgate.api.access import Access
from oodgate.api.accounts import Accounts
from oodgate.api.authorisation import Authorisation
from oodgate.api.doors import Doors
from oodgate.api.key_ring import KeyRing
from oodgate.api.kinds import Kind
from oodgate.api.leaving import unless_client_leaves
from oodgate.api.limits import read_image
from oodgate.api.origin import lane_of, patience_ms_of, told_client
from oodgate.api.plain import DEFAULT_TOP_K, PATH, plain_top_k
from oodgate.fronts.asking import Asking, Sender
from oodgate.fronts.reports import ReportedMetrics
from oodgate.observability.metrics import Metrics
from oodgate.settings import Settings


class FrontService:
    """Tells plain requests from others."""

    def __init__(self, settings: Settings, asking: Asking, passage: ASGIApp, metrics: ReportedMetrics) -> None:
        """Raises SetupError where the clients' keys cannot be read."""
        self._asking = asking
        self._passage = passage
        service: ASGIApp = PlainPrediction(settings, asking)
        if settings.api_keys:
            service = Authorisation(service, OnlyPredict(), KeyRing(settings.api_keys))
        if settings.hosts:
            service = Doors(service, OnlyPredict(), settings.hosts, settings.admin_port)
        # They count as the metrics do, as far as a request needs it.
        self._plain = Access(service, Accounts(cast("Metrics", metrics)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102
        plain = scope["type"] == "lifespan" or (self._asking.able and plain_top_k(scope))
        await (self._plain if plain else self._passage)(scope, receive, send)


class OnlyPredict:
    """The kind of the one endpoint that a front has."""

    def kind(self, path: str) -> Kind | None:
        """Always the same."""
        return "predict"


class PlainPrediction:
    """Answers plain requests to predict."""

    path = PATH  # of the route, by which requests are counted

    def __init__(self, settings: Settings, asking: Asking) -> None:
        self._settings = settings
        self._asking = asking

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102
        if scope["type"] == "lifespan":
            await live(receive, send)
            return
        scope["route"] = self
        response = await self._answer(Request(scope, receive), plain_top_k(scope) or DEFAULT_TOP_K)
        await response(scope, receive, send)

    async def _answer(self, request: Request, top_k: int) -> Response:
        sender = sender_of(request.scope)
        self._asking.check_room()
        data = await read_image(request, self._settings)
        answered = await unless_client_leaves(request, self._asking.judge(data, sender, top_k))
        structlog.contextvars.bind_contextvars(decision=answered.decision)
        return Response(answered.document, media_type="application/json")


def sender_of(scope: Scope) -> Sender:
    """What a request says of its image; raises InvalidParameter where the client's patience is no time."""
    return Sender(scope["state"]["request_id"], told_client(scope), lane_of(scope), patience_ms_of(scope))


async def live(receive: Receive, send: Send) -> None:
    """The life of an application that has nothing to begin or to end."""
    for event in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{event}.complete"})

"""The application, assembled: metrics, routes, handlers around the models."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import structlog
from fastapi import FastAPI
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from starlette.types import ASGIApp, Scope
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from oodgate import __version__
from oodgate.api.access import Access
from oodgate.api.accounts import Accounts
from oodgate.api.authorisation import Authorisation
from oodgate.api.documentation import without_validation_errors
from oodgate.api.documented_access import with_access
from oodgate.api.doors import Doors
from oodgate.api.endpoints import ROUTERS, Endpoints
from oodgate.api.express import Check, Lane
from oodgate.api.handlers import add_handlers
from oodgate.api.key_ring import KeyRing
from oodgate.api.pages import add_pages
from oodgate.api.repository import Repository
from oodgate.memory import settle
from oodgate.observability.gpu import gpu_collector
from oodgate.observability.metrics import Metrics

log = structlog.stdlib.get_logger("oodgate")


@dataclass(frozen=True)
class Service:
    """What answers requests: the lane the plain ones, the application all others."""

    app: ASGIApp
    lane: Lane


def create_service(repository: Repository, keys: KeyRing | None = None) -> Service:
    """The service for the models, whose workers end when it shuts down; without keys everybody may ask."""
    settings, endpoints, accounts = repository.settings, Endpoints(), Accounts(repository.metrics)
    app: ASGIApp = create_app(repository)
    checks: list[Check] = []
    if keys:
        app = authorisation = Authorisation(app, endpoints, keys)
        checks.append(authorisation.check)
    if settings.hosts or settings.admin_port:
        app = doors = Doors(app, endpoints, settings.hosts, settings.admin_port)
        checks.insert(0, doors.check)
    if settings.proxies:
        checks.insert(0, believing(settings.proxies))
    return Service(Access(app, accounts), Lane(repository, accounts, checks))


def believing(proxies: list[str]) -> Check:
    """What puts the client in the place of a trusted proxy, as uvicorn does for the application."""

    async def nothing(*_: object) -> None:
        pass

    layer = ProxyHeadersMiddleware(nothing, proxies)

    def believe(scope: Scope) -> None:
        with suppress(StopIteration):  # it waits for nothing, and so is done at its first step
            layer(scope, None, None).send(None)  # type: ignore[arg-type]

    return believe


def create_app(repository: Repository) -> FastAPI:
    """Every endpoint, documented."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        settle()
        log.info("ready", default=repository.default, models=[entry.name for entry in repository.entries])
        yield
        await repository.close()
        log.info("stopped")

    app = FastAPI(
        title="oodgate",
        version=__version__,
        summary="Classes, an out-of-distribution score and a decision for every image.",
        lifespan=lifespan,
        redirect_slashes=False,
        openapi_url="/openapi.json" if repository.settings.docs else None,
        docs_url=None,
        redoc_url=None,
    )
    app.state.repository = repository
    for router in ROUTERS:
        app.include_router(router)
    if app.openapi_url:
        add_pages(app)
    add_handlers(app, repository.metrics)
    document = app.openapi
    keyed, named = repository.settings.api_keys is not None, bool(repository.settings.hosts)
    app.openapi = lambda: with_access(  # type: ignore[method-assign]
        without_validation_errors(document()), keyed, named
    )
    return app


def create_metrics() -> Metrics:
    """Metrics in a registry of their own, beside those of the process."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    if gpus := gpu_collector():
        registry.register(gpus)
    return Metrics(registry)

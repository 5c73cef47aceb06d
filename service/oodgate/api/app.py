"""The application, assembled: metrics, routes, handlers around the models."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from fastapi import FastAPI
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from starlette.types import ASGIApp

from oodgate import __version__
from oodgate.api.access import Access
from oodgate.api.authorisation import Authorisation
from oodgate.api.documentation import without_validation_errors
from oodgate.api.documented_access import with_access
from oodgate.api.doors import Doors
from oodgate.api.endpoints import ROUTERS, Endpoints
from oodgate.api.handlers import add_handlers
from oodgate.api.key_ring import KeyRing
from oodgate.api.pages import add_pages
from oodgate.api.repository import Repository
from oodgate.api.shortcut import Shortcut
from oodgate.memory import settle
from oodgate.observability.gpu import gpu_collector
from oodgate.observability.metrics import Metrics

log = structlog.stdlib.get_logger("oodgate")


def create_service(repository: Repository, keys: KeyRing | None = None) -> ASGIApp:
    """The service for the models, whose workers end when it shuts down; without keys everybody may ask."""
    settings, endpoints = repository.settings, Endpoints()
    service: ASGIApp = Shortcut(create_app(repository), repository)
    if keys:
        service = Authorisation(service, endpoints, keys)
    if settings.hosts or settings.admin_port:
        service = Doors(service, endpoints, settings.hosts, settings.admin_port)
    return Access(service, repository.metrics)


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

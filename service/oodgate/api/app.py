"""The application, assembled: metrics, routes, handlers around the models."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import structlog
from fastapi import FastAPI
from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from starlette.types import ASGIApp

from oodgate import __version__
from oodgate.api.access import Access
from oodgate.api.accounts import Accounts
from oodgate.api.checks import believing, checks_of
from oodgate.api.documentation import without_validation_errors
from oodgate.api.documented_access import with_access
from oodgate.api.endpoints import ROUTERS, Endpoints
from oodgate.api.express import Lane
from oodgate.api.handlers import add_handlers
from oodgate.api.inquiry import OwnInquiry
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
    settings, accounts = repository.settings, Accounts(repository.metrics)
    checks = checks_of(settings, Endpoints(), keys)
    app = Access(create_app(repository, keys), accounts, checks)
    inquire = partial(OwnInquiry, repository)
    return Service(app, Lane(settings, accounts, inquire, [*believing(settings.proxies), *checks]))


def create_app(repository: Repository, keys: KeyRing | None) -> FastAPI:
    """Every endpoint, documented."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        watch = asyncio.create_task(keys.watch()) if keys else None
        settle()
        log.info("ready", default=repository.default, models=[entry.name for entry in repository.entries])
        yield
        if watch:
            watch.cancel()
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
    # They would be a second series beside every counter, which nothing of the service reads.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    if gpus := gpu_collector():
        registry.register(gpus)
    return Metrics(registry)

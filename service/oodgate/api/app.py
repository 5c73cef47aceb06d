"""The application, assembled: metrics, routes, handlers around the models."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from fastapi import FastAPI
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from starlette.types import ASGIApp

from oodgate import __version__
from oodgate.api import inference_v2, models, ops, predict
from oodgate.api.access import Access
from oodgate.api.documentation import without_validation_errors
from oodgate.api.handlers import add_handlers
from oodgate.api.repository import Repository
from oodgate.api.shortcut import Shortcut
from oodgate.memory import settle
from oodgate.observability.gpu import gpu_collector
from oodgate.observability.metrics import Metrics

log = structlog.stdlib.get_logger("oodgate")


def create_service(repository: Repository) -> ASGIApp:
    """The service for the models; their workers end when the application shuts down."""
    return Access(Shortcut(create_app(repository), repository), repository.metrics)


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
    )
    app.state.repository = repository
    for part in (predict, models, inference_v2, ops):
        app.include_router(part.router)
    add_handlers(app, repository.metrics)
    document = app.openapi
    app.openapi = lambda: without_validation_errors(document())  # type: ignore[method-assign]
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

"""The application, assembled: gate, metrics, batcher, predictor, routes, handlers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from fastapi import FastAPI
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from starlette.concurrency import run_in_threadpool

from oodgate import __version__
from oodgate.api import ops, predict
from oodgate.api.access import AccessMiddleware
from oodgate.api.handlers import add_handlers
from oodgate.api.predictor import Predictor
from oodgate.batching import Batcher, BatchLimits
from oodgate.gate import Gate, Pixels, Verdict
from oodgate.observability.metrics import Metrics
from oodgate.settings import Settings

log = structlog.stdlib.get_logger("oodgate")


def create_app(settings: Settings, gate: Gate) -> FastAPI:
    """The service for one gate; the worker runs from start-up to shut-down of the application."""
    metrics = create_metrics(gate)
    batcher = create_batcher(settings, gate, metrics)
    predictor = Predictor(settings, gate, batcher, metrics)
    metrics.watch_worker(lambda: batcher.alive, lambda: batcher.depth)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        batcher.start()
        log.info("ready", model=gate.manifest.name, version=gate.manifest.version, device=str(gate.model.device))
        yield
        await run_in_threadpool(predictor.close)
        log.info("stopped")

    app = FastAPI(
        title="oodgate",
        version=__version__,
        summary="Classes, an out-of-distribution score and a decision for every image.",
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.state.predictor = predictor
    app.include_router(predict.router)
    app.include_router(ops.router)
    app.add_middleware(AccessMiddleware, metrics=metrics)
    add_handlers(app)
    return app


def create_batcher(settings: Settings, gate: Gate, metrics: Metrics) -> Batcher[Pixels, Verdict]:
    """The queue and worker in front of the gate."""
    return Batcher(
        gate.judge,
        BatchLimits(settings.max_batch, settings.max_wait_ms / 1000, settings.max_queue),
        on_batch=metrics.batch_size.observe,
        on_failure=lambda error: log.error("a batch failed", exc_info=error),
        on_death=lambda error: log.critical("the worker ended", exc_info=error),
    )


def create_metrics(gate: Gate) -> Metrics:
    """Metrics in a registry of their own, beside those of the process."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    metrics = Metrics(registry, gate.calibration_scores)
    metrics.threshold.set(gate.calibration.threshold)
    metrics.model_info.info(
        {
            "model": gate.manifest.name,
            "version": gate.manifest.version,
            "scorer": gate.calibration.scorer.name,
            "device": gate.model.device.type,
            "precision": gate.model.precision,
        }
    )
    return metrics

"""What operators and their tools ask: health, readiness, metrics."""

from fastapi import APIRouter, Request
from prometheus_client.exposition import choose_encoder
from starlette.responses import Response

from oodgate.api.documentation import NOT_READY, problems
from oodgate.api.repository import Models
from oodgate.api.schemas import Health

router = APIRouter(tags=["operate"])


@router.get("/healthz", operation_id="healthz", response_model=Health)
async def healthz() -> dict[str, str]:
    """The process lives."""
    return {"status": "ok"}


@router.get("/readyz", operation_id="readyz", response_model=Health, responses=problems(*NOT_READY))
async def readyz(models: Models) -> dict[str, str]:
    """The default model is loaded, its worker is alive, and the service is not stopping."""
    models.check_readiness()
    return {"status": "ok"}


@router.get(
    "/metrics",
    operation_id="metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(request: Request, models: Models) -> Response:
    """Prometheus metrics, in the text or the OpenMetrics format."""
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(models.metrics.registry), headers={"Content-Type": content_type})

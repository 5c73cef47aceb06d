"""What operators and their tools ask: the model, health, readiness, metrics."""

from fastapi import APIRouter, Request
from prometheus_client.exposition import choose_encoder
from starlette.responses import Response

from oodgate.api.documentation import problems
from oodgate.api.predictor import Predictor
from oodgate.api.schemas import Health, ModelDescription

router = APIRouter(tags=["operate"])


@router.get("/v1/model", operation_id="model", response_model=ModelDescription)
async def model(request: Request) -> dict[str, object]:
    """The model that is served: classes, preprocessing, score, threshold and what it promises."""
    gate = request.app.state.predictor.gate
    manifest, calibration = gate.manifest, gate.calibration
    return {
        "name": manifest.name,
        "version": manifest.version,
        "classes": manifest.classes,
        "preprocessing": manifest.preprocessing.model_dump(),
        "scorer": calibration.scorer.name,
        "w": calibration.scorer.w,
        "threshold": calibration.threshold,
        "guarantee": calibration.guarantee.model_dump(),
        "device": str(gate.model.device),
        "precision": gate.model.precision,
        "measures": manifest.measures,
    }


@router.get("/healthz", operation_id="healthz", response_model=Health)
async def healthz() -> dict[str, str]:
    """The process lives."""
    return {"status": "ok"}


@router.get("/readyz", operation_id="readyz", response_model=Health, responses=problems(503))
async def readyz(request: Request) -> dict[str, str]:
    """The model is loaded, its worker is alive, and the service is not stopping."""
    predictor: Predictor = request.app.state.predictor
    predictor.check_ready()
    return {"status": "ok"}


@router.get(
    "/metrics",
    operation_id="metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(request: Request) -> Response:
    """Prometheus metrics, in the text or the OpenMetrics format."""
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(request.app.state.predictor.metrics.registry), headers={"Content-Type": content_type})

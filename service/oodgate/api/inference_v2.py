"""The Open Inference Protocol (KServe v2) over HTTP: health, metadata, inference. Read on from `answer_inference`.

https://github.com/kserve/open-inference-protocol; binary tensors as in Triton's binary tensor data extension.
"""

import asyncio
from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from oodgate import __version__
from oodgate.api.documentation import (
    INFERENCE_PROBLEMS,
    NAMED_MODEL_PROBLEMS,
    NOT_READY,
    NOT_SERVED,
    inference_errors,
    inference_request_body,
)
from oodgate.api.inference_answer import OUTPUTS, write_inference
from oodgate.api.inference_request import Inference, read_inference
from oodgate.api.inference_schemas import (
    InferenceResponse,
    ModelMetadata,
    ModelReady,
    ServerLive,
    ServerMetadata,
    ServerReady,
)
from oodgate.api.leaving import unless_client_leaves
from oodgate.api.limits import check_coding, read_body
from oodgate.api.origin import origin_of
from oodgate.api.predictor import Predictor
from oodgate.api.render import Document
from oodgate.api.repository import Models
from oodgate.errors import RequestError
from oodgate.gate import Verdict

router = APIRouter(prefix="/v2", tags=["inference"])

JSON_LENGTH = "Inference-Header-Content-Length"
_ANY = -1
_INPUTS = [
    {"name": "image", "datatype": "BYTES", "shape": [_ANY]},
    {"name": "pixels", "datatype": "UINT8", "shape": [_ANY, _ANY, _ANY, 3]},
]
_METADATA_ERRORS = inference_errors(*NAMED_MODEL_PROBLEMS, *NOT_SERVED)
_READY_ERRORS = inference_errors(*NAMED_MODEL_PROBLEMS, *NOT_READY)
_INFERENCE_ERRORS = inference_errors(*INFERENCE_PROBLEMS)


@router.get("", operation_id="v2_server", response_model=ServerMetadata)
async def server_metadata() -> Document:
    """What serves, and which extensions it speaks."""
    return {"name": "oodgate", "version": __version__, "extensions": ["binary_tensor_data"]}


@router.get("/health/live", operation_id="v2_live", response_model=ServerLive)
async def server_live() -> Document:
    """The process lives."""
    return {"live": True}


@router.get(
    "/health/ready", operation_id="v2_ready", response_model=ServerReady, responses=inference_errors(*NOT_READY)
)
async def server_ready(models: Models) -> Document:
    """The default model answers, and the service is not stopping."""
    models.check_readiness()
    return {"ready": True}


@router.get("/models/{name}", operation_id="v2_model", response_model=ModelMetadata, responses=_METADATA_ERRORS)
async def model_metadata(models: Models, name: str) -> Document:
    """What the model takes and gives."""
    return metadata(models.predictor(name))


@router.get(
    "/models/{name}/versions/{version}",
    operation_id="v2_model_version",
    response_model=ModelMetadata,
    responses=_METADATA_ERRORS,
)
async def model_version_metadata(models: Models, name: str, version: str) -> Document:
    """What the model takes and gives, if it is served in this version."""
    return metadata(models.predictor(name, version))


@router.get("/models/{name}/ready", operation_id="v2_model_ready", response_model=ModelReady, responses=_READY_ERRORS)
async def model_ready(models: Models, name: str) -> Document:
    """The model answers, and the service is not stopping."""
    models.ready(name)
    return {"name": name, "ready": True}


@router.get(
    "/models/{name}/versions/{version}/ready",
    operation_id="v2_model_version_ready",
    response_model=ModelReady,
    responses=_READY_ERRORS,
)
async def model_version_ready(models: Models, name: str, version: str) -> Document:
    """The model answers in this version, and the service is not stopping."""
    models.ready(name, version)
    return {"name": name, "ready": True}


@router.post(
    "/models/{name}/infer",
    operation_id="v2_infer",
    response_model=InferenceResponse,
    responses=_INFERENCE_ERRORS,
    openapi_extra=inference_request_body(),
)
async def infer(request: Request, models: Models, name: str) -> Response:
    """Judge image files, or pixels; one that cannot be judged fails the request."""
    return await answer_inference(request, models, name)


@router.post(
    "/models/{name}/versions/{version}/infer",
    operation_id="v2_infer_version",
    response_model=InferenceResponse,
    responses=_INFERENCE_ERRORS,
    openapi_extra=inference_request_body(),
)
async def infer_version(request: Request, models: Models, name: str, version: str) -> Response:
    """Judge image files, or pixels, if the model is served in this version."""
    return await answer_inference(request, models, name, version)


async def answer_inference(request: Request, models: Models, name: str, version: str | None = None) -> Response:
    """The outputs for the images of a request; one version of the model answers all."""
    models.ready(name, version)
    inference = await read(request, models)
    with models.lease(name, version) as predictor:
        verdicts = await unless_client_leaves(request, judge_all(predictor, inference, request))
        body, json_length = write_inference(inference.request, predictor.gate.manifest, verdicts)
    if json_length is None:
        return Response(body, media_type="application/json")
    return Response(body, headers={JSON_LENGTH: str(json_length)}, media_type="application/octet-stream")


async def read(request: Request, models: Models) -> Inference:
    """What the request says, parsed in a thread; raises CompressedBody and as `read_inference` does."""
    check_coding(request.scope)
    settings = models.settings
    body = await read_body(request, settings.max_request_bytes, settings.body_timeout_ms)
    parse = partial(read_inference, body, request.headers.get(JSON_LENGTH), settings)
    return await asyncio.get_running_loop().run_in_executor(models.facilities.decoders, parse)


async def judge_all(predictor: Predictor, inference: Inference, request: Request) -> list[Verdict]:
    """The verdicts, in order; raises the first error, when all have ended."""
    origin = origin_of(request.scope, request.state.request_id, "many" if len(inference.pictures) > 1 else "one")
    work = [
        predictor.judge(picture, origin._replace(prediction_id=f"{origin.prediction_id}/{position}", file=file))
        for position, (picture, file) in enumerate(zip(inference.pictures, inference.files, strict=True))
    ]
    results = await asyncio.gather(*work, return_exceptions=True)
    verdicts = []
    for position, result in enumerate(results):
        if isinstance(result, RequestError):
            raise type(result)(f"image {position}: {result}") from result
        if isinstance(result, BaseException):
            raise result
        verdicts.append(result.verdict)
    return verdicts


def metadata(predictor: Predictor) -> Document:
    """The model as the protocol describes it."""
    manifest = predictor.gate.manifest
    outputs = [{"name": name, "datatype": datatype, "shape": [_ANY]} for name, datatype in OUTPUTS.items()]
    return {
        "name": manifest.name,
        "versions": [manifest.version],
        "platform": f"pytorch_{manifest.engine}",
        "inputs": _INPUTS,
        "outputs": outputs,
    }

"""POST an image, get its classes, its out-of-distribution score and a decision. Start reading here.

From top to bottom: the endpoints, then the steps that they name. Most requests take the same steps by a shorter way,
`express.py`.
"""

import asyncio
from typing import Annotated

import orjson
import structlog
from fastapi import APIRouter, Query, Request
from starlette.datastructures import UploadFile
from starlette.responses import Response

from oodgate.api import render
from oodgate.api.documentation import (
    BATCH_PROBLEMS,
    NAMED_MODEL_PROBLEMS,
    PREDICT_PROBLEMS,
    batch_request_body,
    image_request_body,
    problems,
)
from oodgate.api.handlers import problem
from oodgate.api.leaving import unless_client_leaves
from oodgate.api.limits import check_file_type, read_file, read_files, read_image
from oodgate.api.origin import Origin, origin_of
from oodgate.api.plain import DEFAULT_TOP_K, PATH
from oodgate.api.predictor import Predictor
from oodgate.api.render import Document
from oodgate.api.repository import Models
from oodgate.api.schemas import BatchPrediction, Prediction
from oodgate.errors import RequestError
from oodgate.images.opening import FilePicture
from oodgate.settings import Settings

router = APIRouter(tags=["predict"])

TopK = Annotated[int, Query(ge=1, le=1000, description="How many of the most probable classes to return.")]


@router.post(
    PATH,
    operation_id="predict",
    response_model=Prediction,
    responses=problems(*PREDICT_PROBLEMS),
    openapi_extra=image_request_body(),
)
async def predict(request: Request, models: Models, top_k: TopK = DEFAULT_TOP_K) -> Response:
    """Classify one image and decide whether it belongs to the classifier's world.

    The body is the image file itself, or multipart with one part `file`. The default model answers.
    """
    return await answer_image(request, models, models.default, top_k)


@router.post(
    "/v1/predict/batch",
    operation_id="predict_batch",
    response_model=BatchPrediction,
    responses=problems(*BATCH_PROBLEMS),
    openapi_extra=batch_request_body(),
)
async def predict_batch(request: Request, models: Models, top_k: TopK = DEFAULT_TOP_K) -> Response:
    """Classify many images; a file that cannot be answered gets a problem in its place, the others their answers.

    The body is multipart with parts `files`. The default model answers.
    """
    return await answer_batch(request, models, models.default, top_k)


@router.post(
    "/v1/models/{name}/predict",
    operation_id="predict_with_model",
    response_model=Prediction,
    responses=problems(*PREDICT_PROBLEMS, *NAMED_MODEL_PROBLEMS),
    openapi_extra=image_request_body(),
)
async def predict_with_model(request: Request, models: Models, name: str, top_k: TopK = DEFAULT_TOP_K) -> Response:
    """Classify one image with the model of this name; everything else is as for `/v1/predict`."""
    return await answer_image(request, models, name, top_k)


@router.post(
    "/v1/models/{name}/predict/batch",
    operation_id="predict_batch_with_model",
    response_model=BatchPrediction,
    responses=problems(*BATCH_PROBLEMS, *NAMED_MODEL_PROBLEMS),
    openapi_extra=batch_request_body(),
)
async def predict_batch_with_model(
    request: Request, models: Models, name: str, top_k: TopK = DEFAULT_TOP_K
) -> Response:
    """Classify many images with the model of this name; everything else is as for `/v1/predict/batch`."""
    return await answer_batch(request, models, name, top_k)


async def answer_image(request: Request, models: Models, name: str, top_k: int) -> Response:
    """The prediction of the one image of a request."""
    origin = origin_of(request.scope, request.state.request_id)
    models.ready(name).check_room(origin)
    data = await read_image(request, models.settings)
    origin = origin._replace(file=data)
    with models.lease(name) as predictor:
        judged = await unless_client_leaves(request, predictor.judge(file_picture(data, models.settings), origin))
    document = render.prediction(judged, predictor.gate, top_k, request.state.request_id)
    structlog.contextvars.bind_contextvars(decision=document["decision"])
    return Response(orjson.dumps(document), media_type="application/json")


async def answer_batch(request: Request, models: Models, name: str, top_k: int) -> Response:
    """The predictions or problems of the files of a request, in order; one version of the model answers all."""
    origin = origin_of(request.scope, request.state.request_id, "many")
    models.ready(name)
    files = await read_files(request, models.settings)
    origins = [origin._replace(prediction_id=f"{origin.prediction_id}/{position}") for position in range(len(files))]
    with models.lease(name) as predictor:
        work = asyncio.gather(
            *(predict_file(models, predictor, file, top_k, origin) for file, origin in zip(files, origins, strict=True))
        )
        results = await unless_client_leaves(request, work)
    return Response(orjson.dumps({"results": results}), media_type="application/json")


async def predict_file(models: Models, predictor: Predictor, file: UploadFile, top_k: int, origin: Origin) -> Document:
    """The prediction or the problem of one file of a batch."""
    try:
        check_file_type(file, models.settings)
        data = await read_file(file, models.settings.max_bytes)
        judged = await predictor.judge(file_picture(data, models.settings), origin._replace(file=data))
        return render.prediction(judged, predictor.gate, top_k, origin.prediction_id)
    except RequestError as error:
        models.metrics.refused.labels(error.code).inc()
        return problem(error, origin.prediction_id)


def file_picture(data: bytes, settings: Settings) -> FilePicture:
    """What decodes an image file, within the limits of one image."""
    return FilePicture(data, settings.max_pixels, settings.formats)

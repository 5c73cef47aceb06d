"""POST an image, get its classes, its out-of-distribution score and a decision. Start reading here.

From top to bottom: the two endpoints, then the steps that they name.
"""

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar

import orjson
import structlog
from fastapi import APIRouter, Query, Request
from starlette.datastructures import UploadFile
from starlette.responses import Response

from oodgate.api.documentation import batch_request_body, image_request_body, problems
from oodgate.api.handlers import problem
from oodgate.api.limits import check_file_type, read_file, read_files, read_image
from oodgate.api.predictor import Document, Predictor
from oodgate.api.schemas import BatchPrediction, Prediction
from oodgate.errors import ClientLeft, RequestError

router = APIRouter(tags=["predict"])

TopK = Annotated[int, Query(ge=1, le=1000, description="How many of the most probable classes to return.")]
Returned = TypeVar("Returned")


@router.post(
    "/v1/predict",
    operation_id="predict",
    response_model=Prediction,
    responses=problems(400, 413, 415, 422, 429, 500, 503, 504),
    openapi_extra=image_request_body(),
)
async def predict(request: Request, top_k: TopK = 5) -> Response:
    """Classify one image and decide whether it belongs to the classifier's world.

    The body is the image file itself, or multipart with one part `file`.
    """
    predictor: Predictor = request.app.state.predictor
    data = await read_image(request, predictor.settings)
    work = predictor.predict(data, top_k, request.state.request_id)
    prediction = await unless_client_leaves(request, work)
    structlog.contextvars.bind_contextvars(decision=prediction["decision"])
    return Response(orjson.dumps(prediction), media_type="application/json")


@router.post(
    "/v1/predict/batch",
    operation_id="predict_batch",
    response_model=BatchPrediction,
    responses=problems(400, 413, 415, 422, 500, 503),
    openapi_extra=batch_request_body(),
)
async def predict_batch(request: Request, top_k: TopK = 5) -> Response:
    """Classify many images; a file that cannot be answered gets a problem in its place, the others their answers.

    The body is multipart with parts `files`.
    """
    predictor: Predictor = request.app.state.predictor
    predictor.check_ready()
    files = await read_files(request, predictor.settings)
    work = predict_files(predictor, files, top_k, request.state.request_id)
    results = await unless_client_leaves(request, work)
    return Response(orjson.dumps({"results": results}), media_type="application/json")


async def predict_files(predictor: Predictor, files: list[UploadFile], top_k: int, request_id: str) -> list[Document]:
    """The predictions or problems of the files of a batch, in order."""
    ids = (f"{request_id}/{position}" for position in range(len(files)))
    return await asyncio.gather(
        *(predict_file(predictor, file, top_k, id_) for file, id_ in zip(files, ids, strict=True))
    )


async def predict_file(predictor: Predictor, file: UploadFile, top_k: int, prediction_id: str) -> Document:
    """The prediction or the problem of one file of a batch."""
    try:
        check_file_type(file, predictor.settings)
        data = await read_file(file, predictor.settings.max_bytes)
        return await predictor.predict(data, top_k, prediction_id)
    except RequestError as error:
        predictor.metrics.refused.labels(error.code).inc()
        return problem(error, prediction_id)


async def unless_client_leaves(request: Request, work: Coroutine[Any, Any, Returned]) -> Returned:
    """The result of the work, which is given up when the client closes the connection."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(client_leaves(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientLeft("the client left before its answer was ready")
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()


async def client_leaves(request: Request) -> None:
    """Return when the client has closed the connection; the body has been read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass

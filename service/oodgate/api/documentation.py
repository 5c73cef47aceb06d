"""What the OpenAPI page says about bodies and problems, which the endpoints read and write themselves."""

from typing import Any

from pydantic import BaseModel

from oodgate import errors
from oodgate.api.handlers import PROBLEM_JSON
from oodgate.api.inference_schemas import InferenceError, InferenceRequest
from oodgate.errors import RequestError
from oodgate.settings import IMAGE_TYPES

Problems = tuple[type[RequestError], ...]
Responses = dict[int | str, dict[str, Any]]

NOT_SERVED: Problems = (errors.NotReady, errors.ModelUnavailable, errors.ModelUnloaded)
NOT_READY: Problems = (*NOT_SERVED, errors.Draining)
BATCH_PROBLEMS: Problems = (
    *(errors.MalformedMultipart, errors.TooManyBytes, errors.TooManyFiles, errors.NotAnImageType),
    *(errors.CompressedBody, errors.InvalidParameter, errors.BodyTimeout, RequestError),
    *NOT_READY,
)
IMAGE_PROBLEMS: Problems = (
    *(errors.InvalidImage, errors.TooManyPixels, errors.QueueFull, errors.DeadlineUnreachable),
    *(errors.InferenceFailed, errors.OutOfMemory, errors.DeadlinePassed),
)
PREDICT_PROBLEMS: Problems = (*BATCH_PROBLEMS, *IMAGE_PROBLEMS)
NAMED_MODEL_PROBLEMS: Problems = (errors.ModelNotFound,)
RELOAD_PROBLEMS: Problems = (
    *(errors.ReloadDisabled, errors.ModelNotFound, errors.LoadInProgress, errors.Draining),
    RequestError,
)
RESET_PROBLEMS: Problems = (errors.ReloadDisabled, errors.ModelNotFound, RequestError, *NOT_READY)
INFERENCE_PROBLEMS: Problems = (
    *(errors.MalformedInference, errors.ModelNotFound, errors.TooManyBytes, errors.TooManyFiles),
    *(errors.CompressedBody, errors.InvalidParameter, errors.BodyTimeout, RequestError),
    *IMAGE_PROBLEMS,
    *NOT_READY,
)

_BINARY = {"type": "string", "format": "binary"}


def image_request_body() -> dict[str, Any]:
    """One image: the file itself, or a multipart part `file`."""
    content: dict[str, Any] = {types[0]: {"schema": _BINARY} for types in IMAGE_TYPES.values()}
    content["multipart/form-data"] = _form("file", "ImageUpload", _BINARY)
    return {"requestBody": {"required": True, "content": content}}


def batch_request_body() -> dict[str, Any]:
    """Many images: multipart parts `files`."""
    form = _form("files", "ImageUploads", {"type": "array", "items": _BINARY})
    return {"requestBody": {"required": True, "content": {"multipart/form-data": form}}}


def inference_request_body() -> dict[str, Any]:
    """A v2 inference request in its JSON form."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": _inlined(InferenceRequest)}}}}


def problems(*kinds: type[RequestError]) -> Responses:
    """The problems that an endpoint answers, by status, with their stable codes."""
    reference = {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: _described(status, kinds) | {"content": reference} for status in _statuses(kinds)}


def inference_errors(*kinds: type[RequestError]) -> Responses:
    """The errors that an endpoint of the v2 protocol answers, by status."""
    return {status: _described(status, kinds) | {"model": InferenceError} for status in _statuses(kinds)}


def without_validation_errors(document: dict[str, Any]) -> dict[str, Any]:
    """The OpenAPI document without the 422 that FastAPI adds for every parameter, in a form of its own.

    A name in a path is any text, and the endpoints with other parameters document their own 422.
    """
    for path in document["paths"].values():
        for operation in path.values():
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)
    return document


def _statuses(kinds: Problems) -> list[int]:
    return sorted({kind.status for kind in kinds})


def _described(status: int, kinds: Problems) -> dict[str, Any]:
    own = [kind for kind in kinds if kind.status == status]
    answer: dict[str, Any] = {"description": "; ".join(f"`{kind.code}`: {kind.title}" for kind in own)}
    if any(kind.retry_after_s is not None for kind in own):
        answer["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds to wait"}}
    return answer


def _form(name: str, title: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"schema": {"type": "object", "title": title, "required": [name], "properties": {name: schema}}}


def _inlined(model: type[BaseModel]) -> Any:
    """The JSON schema of a model with every reference replaced by what it leads to."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})

    def resolved(node: Any) -> Any:
        if isinstance(node, list):
            return [resolved(child) for child in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return resolved(definitions[node["$ref"].rpartition("/")[2]])
        return {name: resolved(child) for name, child in node.items()}

    return resolved(schema)

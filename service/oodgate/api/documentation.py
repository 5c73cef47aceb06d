"""What the OpenAPI page says about bodies and problems, which the endpoints read and write themselves."""

from typing import Any

from oodgate.api.handlers import PROBLEM_JSON
from oodgate.errors import RequestError
from oodgate.settings import IMAGE_TYPES

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


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The problems that an endpoint answers, by status, with their stable codes."""
    return {status: _problem(status) for status in statuses}


def _form(name: str, title: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"schema": {"type": "object", "title": title, "required": [name], "properties": {name: schema}}}


def _problem(status: int) -> dict[str, Any]:
    kinds: list[type[RequestError]] = [RequestError, *RequestError.__subclasses__()]
    errors = [kind for kind in kinds if kind.status == status]
    answer: dict[str, Any] = {
        "description": "; ".join(f"`{error.code}`: {error.title}" for error in errors),
        "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    if any(error.retry_after_s is not None for error in errors):
        answer["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds to wait"}}
    return answer

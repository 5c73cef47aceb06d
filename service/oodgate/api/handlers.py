"""Errors -> problem documents (RFC 9457). The one place where a domain error becomes an HTTP answer."""

import re

import orjson
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from oodgate.errors import Draining, InvalidParameter, MethodNotAllowed, NotFound, RequestError, Unauthorized
from oodgate.observability.metrics import Metrics

PROBLEM_JSON = "application/problem+json"
_INFERENCE_PROTOCOL = re.compile(r"/v2(/|$)")


def problem(error: RequestError, request_id: str) -> dict[str, object]:
    """The problem document of an error."""
    return {
        "type": f"urn:oodgate:problem:{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": str(error),
        "code": error.code,
        "request_id": request_id,
    }


def error_parts(error: RequestError, path: str, request_id: str) -> tuple[dict[str, str], bytes]:
    """Headers and body for an error: a problem document, below /v2 what the Open Inference Protocol says."""
    headers = {} if error.retry_after_s is None else {"retry-after": str(error.retry_after_s)}
    if isinstance(error, Unauthorized):
        headers["www-authenticate"] = "Bearer"
    if _INFERENCE_PROTOCOL.match(path):
        return headers | {"content-type": "application/json"}, orjson.dumps({"error": str(error)})
    return headers | {"content-type": PROBLEM_JSON}, orjson.dumps(problem(error, request_id))


def error_response(error: RequestError, path: str, request_id: str) -> Response:
    """The HTTP answer of an error."""
    headers, body = error_parts(error, path, request_id)
    return Response(body, error.status, headers)


def unexpected() -> RequestError:
    """What is said where something happens that nobody expected; whoever says it has logged it."""
    return RequestError("something unexpected happened; the log has it under this request id")


def cut_short() -> Draining:
    """What is said where the time to drain is over."""
    return Draining("the service stopped before the answer was ready; ask another instance")


def add_handlers(app: FastAPI, metrics: Metrics) -> None:
    """Answer every expected error of the app in the form of its path, and count it."""

    async def on_request_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestError)  # noqa: S101 - registered for this class
        metrics.refused.labels(error.code).inc()
        structlog.contextvars.bind_contextvars(code=error.code)
        return error_response(error, request.scope["path"], request.state.request_id)

    async def on_validation_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"][1:])
        return await on_request_error(request, InvalidParameter(f"parameter '{name}': {first['msg']}"))

    async def on_http_exception(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class
        if error.status_code == MethodNotAllowed.status:
            allowed = (error.headers or {}).get("Allow", "")
            detail = f"{request.url.path} does not answer to {request.method}; it answers to {allowed}"
            response = await on_request_error(request, MethodNotAllowed(detail))
            response.headers["Allow"] = allowed
            return response
        return await on_request_error(request, NotFound(f"there is nothing at {request.url.path}"))

    async def on_unexpected_error(request: Request, _: Exception) -> Response:
        return await on_request_error(request, unexpected())  # the framework raises the cause again, and it is logged

    app.add_exception_handler(RequestError, on_request_error)
    app.add_exception_handler(Exception, on_unexpected_error)
    app.add_exception_handler(RequestValidationError, on_validation_error)
    app.add_exception_handler(HTTPException, on_http_exception)

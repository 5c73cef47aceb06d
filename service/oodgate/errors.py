"""Every error that oodgate raises on purpose.

    OodgateError
    |- SetupError              the operator's: a sentence on the terminal, exit status 2
    |  |- BundleError
    |  |- ExportError
    |  |- CalibrationError
    |  |- QuarantineError
    |- RequestError            one request's: a problem document with a stable code
       |- InvalidImage 400, MalformedMultipart 400, MalformedInference 400
       |- Unauthorized 401
       |- Forbidden 403, ReloadDisabled 403
       |- NotFound 404, ModelNotFound 404, MethodNotAllowed 405, BodyTimeout 408
       |- LoadInProgress 409
       |- TooManyBytes 413, TooManyPixels 413, TooManyFiles 413
       |- NotAnImageType 415, CompressedBody 415
       |- HostRefused 421
       |- InvalidParameter 422, LoadFailed 422
       |- QueueFull 429, DeadlineUnreachable 429
       |- ClientLeft 499       never sent: nobody is there to read it
       |- InferenceFailed 500
       |- NotReady 503, Draining 503, ModelUnavailable 503, ModelUnloaded 503, OutOfMemory 503
       |- DeadlinePassed 504

A message says what was wrong, what was expected and what to do. It is shown to the client as it is.
"""

from typing import ClassVar


class OodgateError(Exception):
    """The root of the tree."""


class SetupError(OodgateError):
    """Something that the operator has to change before oodgate can work."""


class BundleError(SetupError):
    """A bundle is missing, damaged, tampered with, or of a format this version does not read."""


class ExportError(SetupError):
    """A network cannot be turned into a bundle."""


class CalibrationError(SetupError):
    """The images given cannot support the threshold asked for."""


class QuarantineError(SetupError):
    """The quarantine cannot be opened, or does not hold what is asked for."""


class RequestError(OodgateError):
    """A request that gets a problem document instead of a prediction."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Internal error"
    busy_s: float = 0.0
    """How long the work that waits already will last, where it is the reason."""
    retry_after_s: ClassVar[int | None] = None


class InvalidImage(RequestError):
    """The bytes are not an image that the allowed decoders can read whole."""

    status, code, title = 400, "invalid_image", "Not a decodable image"


class MalformedMultipart(RequestError):
    """The multipart body does not hold what the endpoint reads."""

    status, code, title = 400, "malformed_multipart", "Malformed multipart body"


class MalformedInference(RequestError):
    """The body of a v2 inference request is not JSON, or its tensors are not those that the model takes."""

    status, code, title = 400, "malformed_inference", "Malformed inference request"


class Unauthorized(RequestError):
    """The request brings no key, or none that the operator gave out."""

    status, code, title = 401, "unauthorized", "Unauthorized"


class Forbidden(RequestError):
    """The key is known, and not meant for this endpoint."""

    status, code, title = 403, "forbidden", "Forbidden"


class ReloadDisabled(RequestError):
    """Models are not loaded, unloaded or reset over HTTP unless the operator allows it."""

    status, code, title = 403, "reload_disabled", "Reload disabled"


class NotFound(RequestError):
    """No endpoint has this path."""

    status, code, title = 404, "not_found", "Not found"


class ModelNotFound(RequestError):
    """No model has this name, or the model is not served in this version."""

    status, code, title = 404, "model_not_found", "Model not found"


class MethodNotAllowed(RequestError):
    """The endpoint does not answer to this method."""

    status, code, title = 405, "method_not_allowed", "Method not allowed"


class BodyTimeout(RequestError):
    """The client did not send the whole body in time."""

    status, code, title = 408, "body_timeout", "Body timeout"


class LoadInProgress(RequestError):
    """The model is being loaded or unloaded by another request."""

    status, code, title = 409, "load_in_progress", "Load in progress"


class TooManyBytes(RequestError):
    """The body, or one file of it, is larger than the limit."""

    status, code, title = 413, "too_many_bytes", "Too many bytes"


class TooManyPixels(RequestError):
    """The image's header announces more pixels than the limit."""

    status, code, title = 413, "too_many_pixels", "Too many pixels"


class TooManyFiles(RequestError):
    """A batch request holds more files than the limit."""

    status, code, title = 413, "too_many_files", "Too many files"


class NotAnImageType(RequestError):
    """The content type is not one of an image, or of an allowed one."""

    status, code, title = 415, "not_an_image_type", "Not an image type"


class CompressedBody(RequestError):
    """The body is compressed, and its size cannot be limited before it is read."""

    status, code, title = 415, "compressed_body", "Compressed body"


class HostRefused(RequestError):
    """The service is asked by a name that the operator does not allow."""

    status, code, title = 421, "host_refused", "Host refused"


class InvalidParameter(RequestError):
    """A query parameter is out of its range."""

    status, code, title = 422, "invalid_parameter", "Invalid parameter"


class LoadFailed(RequestError):
    """The bundle in the model's folder is not fit to be served; what was served before still is."""

    status, code, title = 422, "load_failed", "Load failed"


class QueueFull(RequestError):
    """The queue in front of the model has no place."""

    status, code, title = 429, "queue_full", "Queue full"
    retry_after_s = 1


class DeadlineUnreachable(RequestError):
    """The images that wait would not let this one be answered in time."""

    status, code, title = 429, "deadline_unreachable", "Deadline unreachable"
    retry_after_s = 1


class ClientLeft(RequestError):
    """The client closed the connection before its answer was ready."""

    status, code, title = 499, "client_left", "Client left"


class InferenceFailed(RequestError):
    """The model or the scores failed on this image or its batch."""

    status, code, title = 500, "inference_failed", "Inference failed"


class NotReady(RequestError):
    """The worker that owns the device is not alive."""

    status, code, title = 503, "not_ready", "Not ready"
    retry_after_s = 5


class Draining(RequestError):
    """The service is stopping and takes no new work."""

    status, code, title = 503, "draining", "Draining"
    retry_after_s = 5


class ModelUnavailable(RequestError):
    """The model's bundle could not be loaded, or is being loaded."""

    status, code, title = 503, "model_unavailable", "Model unavailable"
    retry_after_s = 5


class ModelUnloaded(RequestError):
    """The operator has unloaded the model."""

    status, code, title = 503, "model_unloaded", "Model unloaded"
    retry_after_s = 5


class OutOfMemory(RequestError):
    """The device has not enough memory for this one image now."""

    status, code, title = 503, "out_of_memory", "Out of memory"
    retry_after_s = 5


class DeadlinePassed(RequestError):
    """The answer was not there when the request's deadline passed."""

    status, code, title = 504, "deadline_passed", "Deadline passed"


def last_line(error: Exception) -> str:
    """What another library's error says in the end, where most say what was wrong; 300 letters of it."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1][:300]

"""What the payloads of frames say, and how it is read: everything that comes from another process is checked."""

from typing import Annotated, Any, Literal, NamedTuple

import orjson
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from starlette.types import Message, Scope

from oodgate.errors import RequestError
from oodgate.images.preprocess import Preprocessing
from oodgate.settings import Settings

_ERRORS = {kind.code: kind for kind in RequestError.__subclasses__()}
_BYTES = ("raw_path", "query_string")
_TEXTS = ("type", "asgi", "http_version", "scheme", "method", "path", "root_path")


class Transform(BaseModel):
    """How pictures for the default model are preprocessed; not at all where the front is to pass them on."""

    model_config = ConfigDict(frozen=True)

    number: int
    preprocessing: Preprocessing | None


class Welcome(BaseModel):
    """What a front has to know before it can listen."""

    model_config = ConfigDict(frozen=True)

    settings: Settings
    slots: int
    slot_bytes: int
    threads: int
    keeps_files: bool
    transform: Transform


class Ask(NamedTuple):
    """An opened picture, and what the device process has to know to answer for it; the file may follow."""

    slot: int
    transform: int
    top_k: int
    decode_ms: float
    began_s: float  # of `perf_counter`, whose clock is one for all processes
    request_id: str
    client: str  # in words, as of `told_client`
    lane: str
    patience_ms: float  # since it began


class Counted(NamedTuple):
    """What a metric of the service has to take in."""

    metric: Literal["http_requests", "http_duration", "refused", "in_flight"]
    labels: tuple[str, ...]
    amount: float
    observed: list[float]


_ASK = TypeAdapter(Ask)
_REPORT = TypeAdapter(list[Counted])
_REFUSAL = TypeAdapter(tuple[str, str, Annotated[float, Field(ge=0)]])
_START = TypeAdapter(tuple[Annotated[int, Field(ge=100, le=599)], list[tuple[str, str]]])


def pack_ask(ask: Ask, file: bytes) -> tuple[bytes, bytes]:
    """The parts of a payload: JSON, a line's end, which JSON never has, and the file."""
    return orjson.dumps(tuple(ask)) + b"\n", file


def read_ask(payload: bytes) -> tuple[Ask, bytes]:
    """The question, and the file that came with it; raises ValueError as all that read payloads here."""
    head, _, file = payload.partition(b"\n")
    return _ASK.validate_json(head), file


def pack_report(counted: list[Counted]) -> bytes:
    """A list of what is to be counted."""
    return orjson.dumps([tuple(one) for one in counted])


def read_report(payload: bytes) -> list[Counted]:
    """What is to be counted."""
    return _REPORT.validate_json(payload)


def pack_refusal(error: RequestError) -> bytes:
    """An error that says why there is no answer."""
    return orjson.dumps((error.code, str(error), error.busy_s))


def read_refusal(payload: bytes) -> RequestError:
    """The same error in the other process."""
    code, detail, busy_s = _REFUSAL.validate_json(payload)
    error = _ERRORS.get(code, RequestError)(detail)
    error.busy_s = busy_s
    return error


def pack_scope(scope: Scope) -> bytes:
    """What an application is told of a request; nothing of it is a header that a client could have sent instead."""
    record: dict[str, Any] = {name: scope[name] for name in (*_TEXTS, "client", "server")}
    record |= {name: scope[name].decode("latin-1") for name in _BYTES}
    return orjson.dumps(record | {"headers": _to_text(scope["headers"])})


def read_scope(payload: bytes) -> Scope:
    """The scope as uvicorn would give it."""
    record = orjson.loads(payload)
    scope: dict[str, Any] = {name: record[name] for name in _TEXTS}
    scope |= {name: record[name].encode("latin-1") for name in _BYTES}
    scope |= {name: tuple(record[name]) if record[name] else None for name in ("client", "server")}
    return scope | {"headers": _to_bytes(record["headers"]), "state": {}}


def pack_start(message: Message) -> bytes:
    """Status and headers of an answer."""
    return orjson.dumps((message["status"], _to_text(message.get("headers", ()))))


def read_start(payload: bytes) -> Message:
    """The message that begins an answer."""
    status, headers = _START.validate_json(payload)
    return {"type": "http.response.start", "status": status, "headers": _to_bytes(headers)}


def pack_body(message: Message) -> tuple[bytes, bytes]:
    """The parts of a payload: whether more follows, and a part of a body."""
    return (b"\1" if message.get("more_body", False) else b"\0"), message.get("body", b"")


def read_body(kind: Literal["http.request", "http.response.body"], payload: bytes) -> Message:
    """The message that brings a part of a body."""
    return {"type": kind, "body": payload[1:], "more_body": payload[:1] == b"\1"}


def _to_text(headers: Any) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


def _to_bytes(headers: Any) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]

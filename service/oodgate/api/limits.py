"""What a request may bring: the body's size, its type, and the image files in it."""

import asyncio
from collections.abc import Sequence

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.types import Message, Scope

from oodgate.errors import (
    BodyTimeout,
    ClientLeft,
    CompressedBody,
    InvalidImage,
    MalformedMultipart,
    NotAnImageType,
    TooManyBytes,
    TooManyFiles,
)
from oodgate.settings import Settings

MULTIPART = "multipart/form-data"
_UNSPECIFIC = ("", "application/octet-stream")
_MULTIPART_OVERHEAD_BYTES = 64 * 1024


async def read_image(request: Request, settings: Settings) -> bytes:
    """The bytes of the one image of a request, sent as the body itself or as the multipart part `file`."""
    check_coding(request.scope)
    kind = media_type(header(request.scope, b"content-type"))
    if kind == MULTIPART:
        request = limited(request, settings.max_bytes + _MULTIPART_OVERHEAD_BYTES)
        files = await _read_files(request, "file", 1, settings.body_timeout_ms)
        check_file_type(files[0], settings)
        return await read_file(files[0], settings.max_bytes)
    check_type(kind, settings.content_types)
    return not_empty(await read_body(request, settings.max_bytes, settings.body_timeout_ms))


async def read_files(request: Request, settings: Settings) -> list[UploadFile]:
    """The multipart parts `files` of a request, in order, not yet read."""
    check_coding(request.scope)
    kind = media_type(header(request.scope, b"content-type"))
    if kind != MULTIPART:
        raise NotAnImageType(f"the content type is '{kind}', expected {MULTIPART} with parts named 'files'")
    request = limited(request, settings.max_request_bytes)
    return await _read_files(request, "files", settings.max_files, settings.body_timeout_ms)


async def read_file(file: UploadFile, max_bytes: int) -> bytes:
    """The bytes of one part; raises TooManyBytes beyond the limit and InvalidImage where there are none."""
    data = await file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise TooManyBytes(
            f"the file has more than {max_bytes} bytes, the most that an image may have; send a smaller one"
        )
    return not_empty(data)


def check_file_type(file: UploadFile, settings: Settings) -> None:
    """Raise NotAnImageType where a part announces something else than an allowed image."""
    check_type(media_type(file.content_type or ""), settings.content_types, also=_UNSPECIFIC)


def limited(request: Request, max_bytes: int) -> Request:
    """The same request, whose body raises TooManyBytes beyond the limit, before reading it where its length says so.

    It raises ClientLeft where the rest of the body will not come.
    """
    check_size(int(header(request.scope, b"content-length") or 0), max_bytes)
    received = 0

    async def receive() -> Message:
        nonlocal received
        part = await request.receive()
        if part["type"] == "http.disconnect":
            raise ClientLeft("the client left while it was sending")
        received += len(part.get("body", b""))
        check_size(received, max_bytes)
        return part

    return Request(request.scope, receive)


async def read_body(request: Request, max_bytes: int, timeout_ms: float) -> bytes:
    """The whole body; raises BodyTimeout, or as the body of a `limited` request does."""
    receive, parts, more = limited(request, max_bytes).receive, [], True
    try:
        async with asyncio.timeout(timeout_ms / 1000):
            while more:
                part = await receive()
                parts.append(part.get("body", b""))
                more = part.get("more_body", False)
    except TimeoutError as error:
        raise late_body(timeout_ms) from error
    return b"".join(parts)


def header(scope: Scope, name: bytes) -> str:
    """The first value of a header, its name in lower case; empty where there is none."""
    # Two to ten times as fast as the framework's mapping, which is built anew for every request.
    for key, value in scope["headers"]:
        if key == name:
            text: str = value.decode("latin-1")
            return text
    return ""


def check_size(found: int, max_bytes: int) -> None:
    """Raise TooManyBytes where a body is larger than the limit."""
    if found > max_bytes:
        raise TooManyBytes(f"the body has more than {max_bytes} bytes, the most that this endpoint takes; send less")


def check_coding(scope: Scope) -> None:
    """Raise CompressedBody where the body is not sent as it is: how large it becomes is known too late."""
    coding = header(scope, b"content-encoding").strip().lower()
    if coding not in ("", "identity"):
        raise CompressedBody(f"the content coding is '{coding}'; send the body as it is")


def check_type(kind: str, allowed: Sequence[str], also: Sequence[str] = ()) -> None:
    """Raise NotAnImageType unless the media type is one of the allowed."""
    if kind not in allowed and kind not in also:
        raise NotAnImageType(f"the content type is '{kind}', expected one of {', '.join(allowed)}, or {MULTIPART}")


def media_type(content_type: str) -> str:
    """A content type without its parameters, in lower case (RFC 9110, 8.3.1)."""
    return content_type.partition(";")[0].strip().lower()


def not_empty(data: bytes) -> bytes:
    """The data; raises InvalidImage where there is none."""
    if not data:
        raise InvalidImage("there are no bytes; send the image file itself as the body")
    return data


async def _read_files(request: Request, name: str, most: int, timeout_ms: float) -> list[UploadFile]:
    try:
        async with asyncio.timeout(timeout_ms / 1000):
            form = await request.form(max_files=most + 1, max_fields=most + 1)
    except TimeoutError as error:
        raise late_body(timeout_ms) from error
    except (MultiPartException, HTTPException) as error:  # the second in its place where the framework stands around
        reason = error.message if isinstance(error, MultiPartException) else error.detail
        if "Too many files" in reason:
            raise TooManyFiles(f"the request has more than {most} files, the most that it may have") from error
        raise MalformedMultipart(f"the multipart body cannot be read: {reason}") from error
    files = [part for _, part in form.multi_items() if isinstance(part, UploadFile)]
    if not files or [key for key, _ in form.multi_items()] != [name] * len(files):
        raise MalformedMultipart(f"the multipart body needs file parts named '{name}' and no others")
    if len(files) > most:
        raise TooManyFiles(f"the request has {len(files)} files, at most {most} are taken; split it")
    return files


def late_body(timeout_ms: float) -> BodyTimeout:
    """What is said to a client that does not send its body in time."""
    return BodyTimeout(f"the body was not there within {timeout_ms:g} ms; send it faster, or less")

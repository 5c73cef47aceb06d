"""Body of a v2 inference request -> pictures, with every size checked before memory is taken for it.

A body is JSON, or JSON followed by the bytes of a tensor. In JSON an image file is a string in base64; as bytes each
file has its length in front, four bytes, little-endian.
"""

import math
import re
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from struct import unpack_from
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import ValidationError

from oodgate.api.inference_schemas import InferenceRequest, InputTensor
from oodgate.api.limits import not_empty
from oodgate.errors import MalformedInference, TooManyBytes, TooManyFiles, TooManyPixels
from oodgate.images.decode import decode
from oodgate.images.opening import OpenPicture
from oodgate.settings import Settings

MAX_JSON_VALUES = 4 * 2**20
"""Most values in the JSON: a list of numbers takes up to thirty times the memory of its text."""

_LENGTH = re.compile(r"[0-9]{1,18}")
_DTYPES: dict[str, np.dtype[Any]] = {"UINT8": np.dtype("u1"), "FP32": np.dtype("<f4")}


@dataclass(frozen=True, slots=True)
class Inference:
    """What a request says, and the pictures that it brings."""

    request: InferenceRequest
    pictures: list[OpenPicture]
    files: Sequence[bytes | None]  # what each picture is opened from; pixels have none


def read_inference(body: bytes, json_length: str | None, settings: Settings) -> Inference:
    """Read a body whose JSON is as long as the header says, or is all of it.

    Raises MalformedInference, TooManyFiles, TooManyBytes or TooManyPixels.
    """
    text, binary = _split(body, json_length)
    request = _parse(text)
    (tensor,) = request.inputs
    if tensor.shape[0] > settings.max_files:
        raise TooManyFiles(
            f"the request has {tensor.shape[0]} images, at most {settings.max_files} are taken; split it"
        )
    content = _content(tensor, binary)
    if tensor.name == "image":
        files = _read_files(tensor, content, settings)
        return Inference(request, [partial(_decode_file, file, settings) for file in files], files)
    pictures = _read_pixels(tensor, content, settings)
    return Inference(request, pictures, [None] * len(pictures))


def _split(body: bytes, json_length: str | None) -> tuple[bytes, memoryview]:
    if json_length is None:
        return body, memoryview(b"")
    length = int(json_length) if _LENGTH.fullmatch(json_length) else 0
    if not 1 <= length <= len(body):
        raise MalformedInference(
            f"Inference-Header-Content-Length is '{json_length}', expected the length of the JSON, 1 to {len(body)}"
        )
    return body[:length], memoryview(body)[length:]


def _parse(text: bytes) -> InferenceRequest:
    if sum(text.count(mark) for mark in (b",", b"[", b"{")) > MAX_JSON_VALUES:
        raise TooManyBytes(f"the JSON has more than {MAX_JSON_VALUES} values; send the tensor as binary data")
    try:
        return InferenceRequest.model_validate(orjson.loads(text))
    except orjson.JSONDecodeError as error:
        raise MalformedInference(f"the body is not JSON: {error}") from error
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the body"
        raise MalformedInference(f"{where}: {first['msg']}") from error


def _content(tensor: InputTensor, binary: memoryview) -> Any:
    """The `data` of the JSON, or the bytes that follow it."""
    size = tensor.parameters.binary_data_size
    if (size is None) == (tensor.data is None):
        raise MalformedInference(f"input '{tensor.name}' needs one of data and the parameter binary_data_size")
    if (size or 0) != len(binary):
        raise MalformedInference(f"{len(binary)} bytes follow the JSON, input '{tensor.name}' announces {size or 0}")
    return tensor.data if size is None else binary


def _read_files(tensor: InputTensor, content: Any, settings: Settings) -> list[bytes]:
    if tensor.datatype != "BYTES" or len(tensor.shape) != 1:
        raise MalformedInference(
            f"image is {tensor.datatype} {tensor.shape}, expected BYTES [N], one encoded file each"
        )
    if isinstance(content, memoryview):
        files: Sequence[memoryview | str] = _elements(content, tensor.shape[0])
        most = settings.max_bytes
    else:
        files = _strings(content, tensor.shape[0])
        most = 4 * math.ceil(settings.max_bytes / 3)  # characters of base64
    if any(len(file) > most for file in files):
        raise TooManyBytes(f"an image has more than {settings.max_bytes} bytes, the most that it may have")
    return [_bytes(file, position) for position, file in enumerate(files)]


def _elements(content: memoryview, count: int) -> list[memoryview]:
    files, position = [], 0
    for number in range(count):
        start = position + 4
        if start <= len(content):
            position = start + int(unpack_from("<I", content, position)[0])
        if not start <= position <= len(content):
            raise MalformedInference(f"the bytes of image end within element {number} of {count}")
        files.append(content[start:position])
    if position != len(content):
        raise MalformedInference(f"{len(content) - position} bytes are left after the {count} elements of image")
    return files


def _strings(content: Any, count: int) -> list[str]:
    if not isinstance(content, list) or len(content) != count or set(map(type, content)) != {str}:
        raise MalformedInference(f"the data of image must be a list of {count} strings in base64")
    return content


def _bytes(file: memoryview | str, position: int) -> bytes:
    try:
        return b64decode(file, validate=True) if isinstance(file, str) else bytes(file)
    except ValueError as error:
        raise MalformedInference(
            f"image {position}: the string is not base64; encode the image file, or send binary data"
        ) from error


def _decode_file(file: bytes, settings: Settings) -> NDArray[np.uint8]:
    return decode(not_empty(file), settings.max_pixels, settings.formats)


def _read_pixels(tensor: InputTensor, content: Any, settings: Settings) -> list[OpenPicture]:
    if tensor.datatype == "BYTES" or len(tensor.shape) != 4 or tensor.shape[3] != 3:
        raise MalformedInference(f"pixels is {tensor.datatype} {tensor.shape}, expected UINT8 or FP32 [N, H, W, 3]")
    _, height, width, _ = tensor.shape
    if height * width > settings.max_pixels:
        raise TooManyPixels(f"the images have {height} x {width} pixels, at most {settings.max_pixels} are taken")
    dtype, count = _DTYPES[tensor.datatype], math.prod(tensor.shape)
    if isinstance(content, memoryview):
        if len(content) != count * dtype.itemsize:
            raise MalformedInference(f"pixels has {len(content)} bytes, its shape needs {count * dtype.itemsize}")
        values = np.frombuffer(content, dtype)
    else:
        values = _numbers(content, count, tensor.datatype)
    return [partial(_picture, image) for image in values.reshape(tensor.shape)]


def _numbers(content: Any, count: int, datatype: str) -> NDArray[Any]:
    """Nested or flat lists as an array; types are checked first, since numpy would make room for anything."""
    values = content if isinstance(content, list) else []
    while values and set(map(type, values)) == {list}:
        values = list(chain.from_iterable(values))
    if len(values) != count or not set(map(type, values)) <= ({int} if datatype == "UINT8" else {int, float}):
        kind = "whole numbers from 0 to 255" if datatype == "UINT8" else "numbers from 0 to 1"
        raise MalformedInference(f"the data of pixels must be {count} {kind}, as its shape says")
    if datatype == "FP32":
        return np.array(values, np.float64)
    if min(values) < 0 or max(values) > 255:
        raise MalformedInference("the data of pixels must be whole numbers from 0 to 255")
    return np.array(values, np.uint8)


def _picture(image: NDArray[Any]) -> NDArray[np.uint8]:
    """RGB pixels (H, W, 3) of uint8, or floats from 0 to 1, which are rounded to 255 steps."""
    if image.dtype == np.uint8:
        return image.copy()  # where it comes from cannot be written to
    if not ((image >= 0) & (image <= 1)).all():
        raise MalformedInference("pixels of FP32 must be numbers from 0 to 1, before any normalising")
    rounded: NDArray[np.uint8] = np.rint(image * 255).astype(np.uint8)
    return rounded

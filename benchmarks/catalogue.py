"""The servers that are compared: how each is started, what it is sent, where its answer has the class."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from oodgate.bench.pictures import ImageFile

SERVERS = Path(__file__).parent / "peers"
_BOUNDARY = "a-boundary-that-no-picture-holds"


@dataclass(frozen=True)
class Message:
    """A POST."""

    path: str
    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Peer:
    """A server: words after the interpreter of its environment, the form of a request, the way to the class."""

    words: tuple[str, ...]
    message: Callable[[ImageFile], Message]
    top1: Callable[[dict], int] = lambda answer: answer["class"]


def raw(path: str) -> Callable[[ImageFile], Message]:
    """The image file is the body."""
    return lambda file: Message(path, file.data, {"Content-Type": file.content_type})


def form(path: str, field: str) -> Callable[[ImageFile], Message]:
    """The image file is a part of a form."""

    def message(file: ImageFile) -> Message:
        head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="image"\r\n'
        head += f"Content-Type: {file.content_type}\r\n\r\n"
        body = head.encode() + file.data + f"\r\n--{_BOUNDARY}--\r\n".encode()
        return Message(path, body, {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"})

    return message


def tensor(path: str, name: str) -> Callable[[ImageFile], Message]:
    """The image file is the one element of a binary tensor of the Open Inference Protocol."""

    def message(file: ImageFile) -> Message:
        element = len(file.data).to_bytes(4, "little") + file.data
        described = {"name": name, "shape": [1, 1], "datatype": "BYTES"}
        described["parameters"] = {"binary_data_size": len(element)}
        head = json.dumps({"inputs": [described], "parameters": {"binary_data_output": False}}).encode()
        headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
        return Message(path, head + element, headers)

    return message


def first_class(answer: dict) -> int:
    """The class in an answer of the Open Inference Protocol."""
    (found,) = (output["data"][0] for output in answer["outputs"] if output["name"] == "class")
    return found


OODGATE = Peer(
    ("-m", "oodgate.cli", "serve"), raw("/v1/predict?top_k=1"), lambda answer: answer["predictions"][0]["index"]
)
"""As it starts without settings under its own name; else with the workers and batches of the peers, as they run it."""

PEERS = {
    "fastapi": Peer((str(SERVERS / "fastapi_plain.py"),), raw("/predict")),
    "litserve": Peer((str(SERVERS / "litserve_server.py"),), form("/predict", "request")),
    "mosec": Peer((str(SERVERS / "mosec_server.py"),), raw("/inference")),
    "bentoml": Peer(
        ("-m", "bentoml", "serve", "bentoml_service:Classifier", "--host", "127.0.0.1", "--port", "{port}"),
        form("/predict", "images"),
        lambda answer: answer[0]["class"],
    ),
    "pytriton": Peer(
        (str(SERVERS / "pytriton_server.py"),), tensor("/v2/models/classifier/infer", "image"), first_class
    ),
    "torchserve": Peer((str(SERVERS / "torchserve_start.py"),), raw("/predictions/classifier")),
    "oodgate": OODGATE,
    "oodgate-plain": OODGATE,
}

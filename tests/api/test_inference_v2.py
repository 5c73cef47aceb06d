"""The Open Inference Protocol: as Triton's client speaks it, and as nobody should."""

import json
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from struct import pack
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from conftest import encoded, random_picture
from contract import exchange, predict, read_prediction, serving
from oodgate.api.inference_schemas import InferenceError, InferenceResponse, ModelMetadata
from oodgate.bundle import load_bundle
from oodgate.gate import Gate, Verdict

LIMITS = {"max_bytes": 20_000, "max_request_bytes": 200_000, "max_pixels": 10_000, "max_files": 4}
FILES = [encoded(random_picture(seed)) for seed in range(3)]
PIXELS = np.stack([np.asarray(random_picture(seed)) for seed in range(3)])  # (3, 16, 16, 3)
INFER = "/v2/models/tiny/infer"


@pytest.fixture(scope="module")
def client(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with serving(bundle_folder, tmp_path_factory.mktemp("logs"), **LIMITS) as connected:
        yield connected


@pytest.fixture(scope="module")
def verdicts(bundle_folder: Path) -> list[Verdict]:
    """What the gate says to the three pictures."""
    judged = Gate(load_bundle(bundle_folder), "cpu").judge(list(PIXELS))
    return [verdict for verdict in judged if isinstance(verdict, Verdict)]


@pytest.fixture
def typed(client: httpx.Client) -> Iterator[triton.InferenceServerClient]:
    """A client of Triton's."""
    with triton.InferenceServerClient(f"{client.base_url.host}:{client.base_url.port}") as connected:
        yield connected


def file_tensor(**changes: object) -> dict[str, Any]:
    data = [b64encode(data).decode() for data in FILES]
    return {"name": "image", "datatype": "BYTES", "shape": [3], "data": data} | changes


def pixel_tensor(pixels: NDArray[Any] = PIXELS, **changes: object) -> dict[str, Any]:
    shape, data = list(pixels.shape), pixels.tolist()
    datatype = "UINT8" if pixels.dtype == np.uint8 else "FP32"
    return {"name": "pixels", "datatype": datatype, "shape": shape, "data": data} | changes


def infer(client: httpx.Client, *tensors: dict[str, Any], path: str = INFER, **members: object) -> httpx.Response:
    return client.post(path, json={"inputs": tensors} | members)


def infer_binary(client: httpx.Client, tensor: dict[str, Any], data: bytes, **members: object) -> httpx.Response:
    sized = tensor | {"parameters": {"binary_data_size": len(data)}} if "parameters" not in tensor else tensor
    text = json.dumps({"inputs": [{key: value for key, value in sized.items() if key != "data"}]} | members).encode()
    return client.post(INFER, content=text + data, headers={"Inference-Header-Content-Length": str(len(text))})


def columns(response: httpx.Response) -> dict[str, list[Any]]:
    """The outputs of an answer in JSON."""
    assert response.status_code == 200, response.text
    answer = InferenceResponse.model_validate_json(response.content)
    assert (answer.model_name, answer.model_version) == ("tiny", "1")
    return {output.name: output.data or [] for output in answer.outputs}


def assert_same(found: dict[str, Any], verdicts: list[Verdict]) -> None:
    """Every output is the one of the gate, in order."""
    names = np.array(["ant", "bee", "cat", "dog"])
    assert list(found) == ["class", "probability", "ood_score", "p_value", "accept"]
    assert list(found["class"]) == [names[verdict.probabilities.argmax()] for verdict in verdicts]
    assert list(found["accept"]) == [verdict.accepted for verdict in verdicts]
    np.testing.assert_allclose(found["probability"], [verdict.probabilities.max() for verdict in verdicts], atol=1e-5)
    np.testing.assert_allclose(found["ood_score"], [verdict.score for verdict in verdicts], atol=1e-5)
    np.testing.assert_allclose(found["p_value"], [verdict.p_value for verdict in verdicts], atol=1e-5)


def read_error(response: httpx.Response, status: int) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    assert set(response.json()) == {"error"}
    return InferenceError.model_validate_json(response.content).error


def test_tritons_client_finds_server_and_model(typed: triton.InferenceServerClient) -> None:
    assert typed.is_server_live()
    assert typed.is_server_ready()
    assert typed.is_model_ready("tiny")
    assert typed.is_model_ready("tiny", "1")
    assert not typed.is_model_ready("tiny", "2")
    assert not typed.is_model_ready("other")
    assert typed.get_server_metadata()["name"] == "oodgate"
    metadata = ModelMetadata.model_validate(typed.get_model_metadata("tiny"))
    assert (metadata.name, metadata.versions, metadata.platform) == ("tiny", ["1"], "pytorch_torchscript")
    assert {tensor.name: (tensor.datatype, tensor.shape) for tensor in metadata.inputs} == {
        "image": ("BYTES", [-1]),
        "pixels": ("UINT8", [-1, -1, -1, 3]),
    }
    with pytest.raises(InferenceServerException, match="there is no model 'other'"):
        typed.get_model_metadata("other")


@pytest.mark.parametrize("binary", [True, False])
def test_tritons_client_sends_image_files(
    typed: triton.InferenceServerClient, verdicts: list[Verdict], binary: bool
) -> None:
    tensor = triton.InferInput("image", [3], "BYTES")
    files = FILES if binary else [b64encode(data) for data in FILES]
    tensor.set_data_from_numpy(np.array(files, dtype=np.object_), binary_data=binary)
    result = typed.infer("tiny", [tensor], request_id="mine")
    assert result.get_response()["id"] == "mine"
    found = {name: result.as_numpy(name) for name in ("class", "probability", "ood_score", "p_value", "accept")}
    assert_same(found | {"class": [name.decode() for name in found["class"]]}, verdicts)
    assert found["accept"].dtype == np.bool_
    assert found["ood_score"].dtype == np.float32


@pytest.mark.parametrize("binary", [True, False])
def test_tritons_client_sends_pixels_and_chooses_outputs(
    typed: triton.InferenceServerClient, verdicts: list[Verdict], binary: bool
) -> None:
    tensor = triton.InferInput("pixels", list(PIXELS.shape), "UINT8")
    tensor.set_data_from_numpy(PIXELS, binary_data=binary)
    outputs = [triton.InferRequestedOutput("ood_score", binary_data=binary), triton.InferRequestedOutput("class")]
    result = typed.infer("tiny", [tensor], model_version="1", outputs=outputs)
    assert [output["name"] for output in result.get_response()["outputs"]] == ["ood_score", "class"]
    np.testing.assert_allclose(result.as_numpy("ood_score"), [verdict.score for verdict in verdicts], atol=1e-5)
    assert result.as_numpy("class").shape == (3,)


def test_files_and_pixels_give_the_same_in_every_form(client: httpx.Client, verdicts: list[Verdict]) -> None:
    elements = b"".join(pack("<I", len(data)) + data for data in FILES)
    floats = (PIXELS / 255).astype(np.float32)
    answers = [
        infer(client, file_tensor()),
        infer(client, pixel_tensor()),
        infer(client, pixel_tensor(data=PIXELS.ravel().tolist())),
        infer(client, pixel_tensor(PIXELS / 255)),
        infer_binary(client, file_tensor(), elements),
        infer_binary(client, pixel_tensor(), PIXELS.tobytes()),
        infer_binary(client, pixel_tensor(floats), floats.tobytes()),
        infer(client, pixel_tensor(), path="/v2/models/tiny/versions/1/infer"),
    ]
    for answer in answers:
        assert answer.headers["content-type"] == "application/json"
        assert_same(columns(answer), verdicts)


def test_pixels_of_any_size_are_preprocessed_like_a_file(client: httpx.Client) -> None:
    picture = random_picture(5, 40, 30)
    found = columns(infer(client, pixel_tensor(np.asarray(picture)[None])))
    from_file = read_prediction(predict(client, encoded(picture)))
    assert found["ood_score"] == [pytest.approx(from_file.ood.score, abs=1e-6)]


@pytest.mark.parametrize(
    ("members", "binary"),
    [
        ({}, []),
        ({"outputs": [{"name": "accept"}]}, []),
        ({"outputs": [{"name": "accept", "parameters": {"binary_data": True}}]}, ["accept"]),
        (
            {"parameters": {"binary_data_output": True}, "outputs": [{"name": "accept"}, {"name": "class"}]},
            ["accept", "class"],
        ),
        (
            {
                "parameters": {"binary_data_output": True, "priority": 3},
                "outputs": [{"name": "class", "parameters": {"binary_data": False}}, {"name": "accept"}],
            },
            ["accept"],
        ),
    ],
)
def test_outputs_are_bytes_where_they_are_asked_for_so(
    client: httpx.Client, members: dict[str, Any], binary: list[str]
) -> None:
    answer = infer(client, file_tensor(), id="a b", **members)
    length = int(answer.headers.get("inference-header-content-length", len(answer.content)))
    document = json.loads(answer.content[:length])
    assert document["id"] == "a b"
    sizes = {output["name"]: output.get("parameters", {}).get("binary_data_size") for output in document["outputs"]}
    assert [name for name, size in sizes.items() if size is not None] == binary
    assert ("inference-header-content-length" in answer.headers) == bool(binary)
    assert len(answer.content) == length + sum(size or 0 for size in sizes.values())
    if "outputs" in members:
        assert list(sizes) == [output["name"] for output in members["outputs"]]


def test_an_answer_without_id_has_none(client: httpx.Client) -> None:
    assert "id" not in infer(client, file_tensor()).json()


SPOILT = {
    "no inputs": {"inputs": []},
    "two inputs": {"inputs": [file_tensor(), file_tensor()]},
    "inputs that are none": {"inputs": [3]},
    "an id that is no string": {"id": 3, "inputs": [file_tensor()]},
    "an unknown input": {"inputs": [file_tensor(name="picture")]},
    "an unknown output": {"inputs": [file_tensor()], "outputs": [{"name": "logits"}]},
    "an unknown datatype": {"inputs": [pixel_tensor(datatype="INT8")]},
    "the datatype of the other": {"inputs": [file_tensor(datatype="UINT8")]},
    "files as pixels": {"inputs": [pixel_tensor(datatype="BYTES")]},
    "a negative shape": {"inputs": [pixel_tensor(shape=[-3, 16, 16, 3])]},
    "an empty shape": {"inputs": [file_tensor(shape=[])]},
    "no images": {"inputs": [file_tensor(shape=[0], data=[])]},
    "a shape of fractions": {"inputs": [file_tensor(shape=[3.0])]},
    "a shape of truths": {"inputs": [file_tensor(shape=[True])]},
    "another number of files": {"inputs": [file_tensor(shape=[2])]},
    "files of more dimensions": {"inputs": [file_tensor(shape=[3, 1])]},
    "channels first": {"inputs": [pixel_tensor(PIXELS.transpose(0, 3, 1, 2))]},
    "another number of pixels": {"inputs": [pixel_tensor(shape=[3, 16, 15, 3])]},
    "too large a pixel": {"inputs": [pixel_tensor(np.full((1, 16, 16, 3), 256), datatype="UINT8")]},
    "a negative pixel": {"inputs": [pixel_tensor(np.full((1, 16, 16, 3), -1), datatype="UINT8")]},
    "a fraction of a pixel": {"inputs": [pixel_tensor(PIXELS / 255, datatype="UINT8")]},
    "floats beyond white": {"inputs": [pixel_tensor(np.full((1, 16, 16, 3), 1.01))]},
    "strings as pixels": {"inputs": [pixel_tensor(data=["0"] * PIXELS.size)]},
    "nulls as pixels": {"inputs": [pixel_tensor(data=[None] * PIXELS.size)]},
    "ragged pixels": {"inputs": [pixel_tensor(data=[[0], 0])]},
    "an object as pixels": {"inputs": [pixel_tensor(data={"a": 1})]},
    "numbers as files": {"inputs": [file_tensor(data=[1, 2, 3])]},
    "one string as files": {"inputs": [file_tensor(data="abc")]},
    "no base64": {"inputs": [file_tensor(data=["%%%"] * 3)]},
    "no ASCII": {"inputs": [file_tensor(data=["ü"] * 3)]},
    "no image": {"inputs": [file_tensor(data=[b64encode(b"text").decode()] * 3)]},
    "empty strings": {"inputs": [file_tensor(data=[""] * 3)]},
    "no data": {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1]}]},
    "shared memory": {"inputs": [file_tensor(data=None, parameters={"shared_memory_region": "a"})]},
    "bytes that do not come": {"inputs": [file_tensor(data=None, parameters={"binary_data_size": 10})]},
    "a negative size": {"inputs": [file_tensor(data=None, parameters={"binary_data_size": -1})]},
    "an endless integer": {"inputs": [file_tensor(shape=[10**30])]},
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_request_that_is_not_of_the_protocol_is_malformed(client: httpx.Client, name: str) -> None:
    assert read_error(client.post(INFER, json=SPOILT[name]), 400)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"3", b"null", b'"\xff"', b'{"inputs": "\xff\xfe"}', b"[" * 100_000, b'{"inputs": NaN}'],
    ids=["empty", "cut", "list", "number", "null", "no UTF-8", "no UTF-8 within", "deep", "NaN"],
)
def test_a_body_that_is_no_json_object_is_malformed(client: httpx.Client, body: bytes) -> None:
    assert read_error(client.post(INFER, content=body), 400)


@pytest.mark.parametrize("length", ["", "0", "-1", "abc", "1e3", "²", "99999", "9" * 5000, "1, 1", "17"])
def test_a_wrong_length_of_the_json_is_malformed(client: httpx.Client, length: str) -> None:
    headers = {b"Inference-Header-Content-Length": length.encode("latin-1")}
    assert read_error(client.post(INFER, json={"inputs": [file_tensor()]}, headers=headers), 400)


@pytest.mark.parametrize(
    ("tensor", "data"),
    [
        (pixel_tensor(), PIXELS.tobytes()[:-1]),
        (pixel_tensor(), PIXELS.tobytes() + b"0"),
        (pixel_tensor(), b""),
        (pixel_tensor(parameters={"binary_data_size": 5}), PIXELS.tobytes()),
        (pixel_tensor(datatype="FP32"), PIXELS.tobytes()),
        (pixel_tensor(PIXELS / 255), np.full(PIXELS.shape, np.nan, "<f4").tobytes()),
        (pixel_tensor(PIXELS / 255), np.full(PIXELS.shape, -0.01, "<f4").tobytes()),
        (file_tensor(), b""),
        (file_tensor(), b"\x01"),
        (file_tensor(), b"\xff\xff\xff\xff" + FILES[0]),
        (file_tensor(shape=[1]), pack("<I", len(FILES[0])) + FILES[0] + b"\x00"),
        (file_tensor(shape=[1]), pack("<I", 0)),
        (file_tensor(shape=[2]), pack("<I", len(FILES[0])) + FILES[0]),
        (file_tensor(shape=[1]), pack("<I", 4) + b"text"),
    ],
)
def test_bytes_that_are_not_those_of_the_tensor_are_malformed(
    client: httpx.Client, tensor: dict[str, Any], data: bytes
) -> None:
    assert read_error(infer_binary(client, tensor, data), 400)


def test_sizes_are_refused_beyond_their_limits(client: httpx.Client) -> None:
    huge = np.zeros((1, 101, 100, 3), np.uint8)
    large = [b64encode(FILES[0] + bytes(LIMITS["max_bytes"])).decode()]
    element = FILES[0] + bytes(LIMITS["max_bytes"])
    refused = [
        infer(client, file_tensor(shape=[5], data=[""] * 5)),
        infer(client, pixel_tensor(shape=[2**62, 2**62, 2**62, 3], data=[])),
        infer_binary(client, pixel_tensor(huge), huge.tobytes()),
        infer_binary(client, pixel_tensor(shape=[1, 2**31, 2**31, 3]), b"0"),
        infer(client, file_tensor(shape=[1], data=large)),
        infer_binary(client, file_tensor(shape=[1]), pack("<I", len(element)) + element),
        client.post(INFER, content=bytes(LIMITS["max_request_bytes"] + 1)),
    ]
    assert all(read_error(response, 413) for response in refused)


def test_an_announced_length_beyond_the_limit_is_refused_before_the_body(client: httpx.Client) -> None:
    head = f"POST {INFER} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {10**12}\r\n\r\n"
    assert exchange(client, head.encode()).startswith(b"HTTP/1.1 413 ")


def test_a_json_of_too_many_values_is_refused_before_it_is_parsed(bundle_folder: Path, tmp_path: Path) -> None:
    with serving(bundle_folder, tmp_path) as client:
        for value in (b"[],", b"0,", b"{},"):
            error = read_error(client.post(INFER, content=b"[" + value * (5 * 2**20) + b"0]"), 413)
            assert "send the tensor as binary data" in error


def test_an_image_that_fails_names_its_position(client: httpx.Client) -> None:
    data = [file_tensor()["data"][0], b64encode(b"no image").decode()]
    assert read_error(infer(client, file_tensor(shape=[2], data=data)), 400).startswith("image 1: ")


def test_an_image_file_is_held_to_the_limit_of_pixels(client: httpx.Client) -> None:
    data = [b64encode(encoded(random_picture(0, 101, 100), "JPEG")).decode()]
    assert "101 x 100" in read_error(infer(client, file_tensor(shape=[1], data=data)), 413)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "gzip, identity"])
def test_a_compressed_body_is_an_unsupported_type(client: httpx.Client, coding: str) -> None:
    response = client.post(INFER, json={"inputs": [file_tensor()]}, headers={"Content-Encoding": coding})
    assert coding in read_error(response, 415)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/models/other", 404),
        ("GET", "/v2/models/tiny/versions/2", 404),
        ("GET", "/v2/models/tiny/versions/2/ready", 404),
        ("POST", "/v2/models/tiny/versions/2/infer", 404),
        ("POST", "/v2/models/other/infer", 404),
        ("GET", "/v2/unknown", 404),
        ("GET", INFER, 405),
    ],
)
def test_errors_have_the_form_of_the_protocol(client: httpx.Client, method: str, path: str, status: int) -> None:
    assert read_error(client.request(method, path), status)

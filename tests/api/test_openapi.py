"""The OpenAPI document, and a client that is generated from it."""

import importlib
import json
import re
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from conftest import encoded, random_picture
from contract import predict, read_prediction, serving
from oodgate.settings import IMAGE_TYPES

PACKAGE = "generated_oodgate_client"
PNG = encoded(random_picture(0))
Load = Callable[[str], ModuleType]


@pytest.fixture(scope="module")
def client(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with serving(bundle_folder, tmp_path_factory.mktemp("logs")) as connected:
        yield connected


@pytest.fixture(scope="module")
def document(client: httpx.Client) -> dict[str, Any]:
    content: dict[str, Any] = client.get("/openapi.json").json()
    return content


@pytest.fixture(scope="module")
def generated(document: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Load]:
    """What loads the modules of the generated package; the generator must not warn."""
    folder = tmp_path_factory.mktemp("generated")
    # The generator knows no image types; it has to be told that their bodies are plain bytes.
    types = {names[0]: "application/octet-stream" for names in IMAGE_TYPES.values()}
    (folder / "config.yml").write_text(json.dumps({"post_hooks": [], "content_type_overrides": types}))
    (folder / "openapi.json").write_text(json.dumps(document))
    generator = [Path(sys.executable).with_name("openapi-python-client"), "generate", "--meta", "none"]
    options = ["--fail-on-warning", "--config", "config.yml", "--path", "openapi.json", "--output-path", PACKAGE]
    run = subprocess.run([*generator, *options], cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    sys.path.insert(0, str(folder))
    yield lambda name: importlib.import_module(f"{PACKAGE}.{name}")
    sys.path.remove(str(folder))


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every operation by its id."""
    return {operation["operationId"]: operation for path in document["paths"].values() for operation in path.values()}


def references(node: Any) -> Iterator[str]:
    """Every reference in a part of the document."""
    if isinstance(node, dict):
        yield from ([node["$ref"]] if "$ref" in node else [])
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from references(child)


def test_every_reference_leads_to_a_schema(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    found = set(references(document))
    assert "#/components/schemas/Problem" in found
    assert found <= {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}


def test_operations_have_names_of_their_own(document: dict[str, Any]) -> None:
    names = {"predict", "predict_batch", "model", "healthz", "readyz", "metrics"}
    names |= {
        "models",
        "describe_model",
        "predict_with_model",
        "predict_batch_with_model",
        "load_model",
        "unload_model",
        "reset_drift",
    }
    names |= {"v2_server", "v2_live", "v2_ready", "v2_model", "v2_model_ready", "v2_infer"}
    names |= {"v2_model_version", "v2_model_version_ready", "v2_infer_version"}
    assert set(operations(document)) == names
    assert sum(len(path) for path in document["paths"].values()) == len(names)


PREDICT = {"400", "408", "413", "415", "422", "429", "500", "503", "504"}
BATCH = {"400", "408", "413", "415", "422", "500", "503"}
INFER = {"400", "404", "408", "413", "415", "422", "429", "500", "503", "504"}


def documented(document: dict[str, Any], operation: str, statuses: set[str], content: dict[str, Any]) -> None:
    """Hold an operation to its error statuses, their form and the header that tells when to come back."""
    answers = operations(document)[operation]["responses"]
    assert set(answers) == {"200", *statuses}
    for status in statuses:
        assert answers[status]["content"] == content
        assert ("Retry-After" in answers[status].get("headers", {})) == (status in ("429", "503"))


@pytest.mark.parametrize(
    ("operation", "statuses"),
    [
        ("predict", PREDICT),
        ("predict_batch", BATCH),
        ("predict_with_model", PREDICT | {"404"}),
        ("predict_batch_with_model", BATCH | {"404"}),
        ("models", set()),
        ("model", {"503"}),
        ("describe_model", {"404", "503"}),
        ("load_model", {"403", "404", "409", "422", "500", "503"}),
        ("unload_model", {"403", "404", "409", "500", "503"}),
        ("reset_drift", {"403", "404", "500", "503"}),
        ("readyz", {"503"}),
        ("healthz", set()),
        ("metrics", set()),
    ],
)
def test_problems_are_documented_by_status(document: dict[str, Any], operation: str, statuses: set[str]) -> None:
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    documented(document, operation, statuses, content)


@pytest.mark.parametrize(
    ("operation", "statuses"),
    [
        ("v2_server", set()),
        ("v2_live", set()),
        ("v2_ready", {"503"}),
        ("v2_model", {"404", "503"}),
        ("v2_model_version", {"404", "503"}),
        ("v2_model_ready", {"404", "503"}),
        ("v2_model_version_ready", {"404", "503"}),
        ("v2_infer", INFER),
        ("v2_infer_version", INFER),
    ],
)
def test_errors_of_the_inference_protocol_are_documented_by_status(
    document: dict[str, Any], operation: str, statuses: set[str]
) -> None:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/InferenceError"}}}
    documented(document, operation, statuses, content)


@pytest.mark.parametrize(
    ("operation", "status", "codes"),
    [
        ("predict", "400", {"invalid_image", "malformed_multipart"}),
        ("predict_batch", "400", {"malformed_multipart"}),
        ("predict", "429", {"queue_full", "deadline_unreachable"}),
        (
            "predict_with_model",
            "503",
            {"out_of_memory", "not_ready", "draining", "model_unavailable", "model_unloaded"},
        ),
        ("load_model", "422", {"load_failed"}),
        ("v2_infer", "400", {"invalid_image", "malformed_inference"}),
    ],
)
def test_a_documented_status_names_its_codes(
    document: dict[str, Any], operation: str, status: str, codes: set[str]
) -> None:
    assert set(re.findall(r"`(\w+)`", operations(document)[operation]["responses"][status]["description"])) == codes


def test_bodies_are_documented_as_the_endpoints_read_them(document: dict[str, Any]) -> None:
    one, many = (operations(document)[name]["requestBody"]["content"] for name in ("predict", "predict_batch"))
    assert set(one) == {names[0] for names in IMAGE_TYPES.values()} | {"multipart/form-data"}
    assert one["multipart/form-data"]["schema"]["required"] == ["file"]
    assert set(many) == {"multipart/form-data"}
    assert many["multipart/form-data"]["schema"]["required"] == ["files"]
    inference = operations(document)["v2_infer"]["requestBody"]["content"]["application/json"]["schema"]
    assert inference["required"] == ["inputs"]
    assert inference["properties"]["inputs"]["items"]["properties"]["name"]["enum"] == ["image", "pixels"]


def test_a_generated_client_predicts_with_typed_answers(client: httpx.Client, generated: Load) -> None:
    types, models = generated("types"), generated("models")
    raw = read_prediction(predict(client, PNG, top_k=3))
    file = types.File(payload=BytesIO(PNG), file_name="a.png", mime_type="image/png")
    multipart = models.PredictFilesImageUpload(file=file)
    image = types.File(payload=BytesIO(PNG))
    with generated("client").Client(base_url=str(client.base_url)) as typed:
        for body in (multipart, image):
            answer = generated("api.predict.predict").sync(client=typed, body=body, top_k=3)
            assert isinstance(answer, models.Prediction)
            assert [(entry.class_, entry.index, entry.probability) for entry in answer.predictions] == [
                (entry.class_name, entry.index, entry.probability) for entry in raw.predictions
            ]
            assert answer.decision == raw.decision
            assert answer.model.to_dict() == raw.model.model_dump()
            assert answer.ood.to_dict() == raw.ood.model_dump()
            assert answer.timing_ms.total > 0


def test_a_generated_client_reads_problems(client: httpx.Client, generated: Load) -> None:
    types, models = generated("types"), generated("models")
    with generated("client").Client(base_url=str(client.base_url), raise_on_unexpected_status=True) as typed:
        image = types.File(payload=BytesIO(b"no image"))
        problem = generated("api.predict.predict").sync(client=typed, body=image)
    assert isinstance(problem, models.Problem)
    assert (problem.status, problem.code) == (400, "invalid_image")


def test_a_generated_client_predicts_batches(client: httpx.Client, generated: Load) -> None:
    types, models = generated("types"), generated("models")
    raw = read_prediction(predict(client, PNG))
    files = [
        types.File(payload=BytesIO(data), file_name="a.png", mime_type="image/png") for data in (PNG, b"no image", PNG)
    ]
    with generated("client").Client(base_url=str(client.base_url)) as typed:
        body = models.PredictBatchImageUploads(files=files)
        answer = generated("api.predict.predict_batch").sync(client=typed, body=body)
    assert isinstance(answer, models.BatchPrediction)
    first, bad, last = answer.results
    assert isinstance(bad, models.Problem)
    assert bad.code == "invalid_image"
    for prediction in (first, last):
        assert isinstance(prediction, models.Prediction)
        assert prediction.ood.to_dict() == raw.ood.model_dump()


def test_a_generated_client_asks_for_the_model(client: httpx.Client, generated: Load) -> None:
    with generated("client").Client(base_url=str(client.base_url)) as typed:
        described = generated("api.models.model").sync(client=typed)
    assert described.to_dict() == client.get("/v1/model").json()


def test_a_generated_client_speaks_to_a_model_by_its_name(client: httpx.Client, generated: Load) -> None:
    types, models = generated("types"), generated("models")
    raw = read_prediction(predict(client, PNG))
    with generated("client").Client(base_url=str(client.base_url)) as typed:
        listed = generated("api.models.models").sync(client=typed)
        answer = generated("api.predict.predict_with_model").sync(
            "tiny", client=typed, body=types.File(payload=BytesIO(PNG))
        )
        unknown = generated("api.models.describe_model").sync("other", client=typed)
    assert [(model.name, model.state, model.default) for model in listed.models] == [("tiny", "ready", True)]
    assert answer.ood.to_dict() == raw.ood.model_dump()
    assert isinstance(unknown, models.Problem)
    assert unknown.code == "model_not_found"


def test_a_generated_client_infers(client: httpx.Client, generated: Load) -> None:
    raw = read_prediction(predict(client, PNG))
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [b64encode(PNG).decode()]}
    body = generated("models").V2InferInferenceRequest.from_dict({"inputs": [tensor]})
    with generated("client").Client(base_url=str(client.base_url)) as typed:
        answer = generated("api.inference.v2_infer").sync("tiny", client=typed, body=body)
    scores = {output.name: output.data for output in answer.outputs}
    assert scores["ood_score"] == [raw.ood.score]
    assert scores["class"] == [raw.predictions[0].class_name]

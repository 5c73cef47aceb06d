"""Several models side by side: the list, each by its name, and those that cannot be served."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from conftest import StartServer, encoded, random_picture, tiny_bundle
from contract import connect, predict, predict_batch, read_batch, read_prediction, read_problem, scrape, serving, value
from oodgate.api.schemas import ModelDescription, ModelList, Prediction
from oodgate.bundle import load_bundle
from oodgate.gate import Gate, Verdict
from versions import install, tiny_version

PNG = encoded(random_picture(0))
CLASS_IDS = ("n1", "n2", "n3", "n4")
PARENTS = {"ant": "insect", "bee": "insect", "insect": "animal", "cat": "animal"}


@pytest.fixture(scope="module")
def models(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models that can be served, a third without threshold and a fourth that was damaged."""
    folder = tmp_path_factory.mktemp("models")
    tiny_version(folder / "one", image_folder, "1")
    tiny_version(folder / "two", image_folder, "2", name="second", class_ids=CLASS_IDS, parents=PARENTS)
    tiny_bundle(folder / "raw")
    raw = folder / "raw" / "bundle.json"
    raw.write_text(raw.read_text().replace('"tiny"', '"raw"'))
    install(folder / "one", folder / "damaged")
    (folder / "damaged" / "bundle.json").write_text("{")
    (folder / "no bundle").mkdir()
    return folder


@pytest.fixture(scope="module")
def client(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    logs = tmp_path_factory.mktemp("logs")
    with serving(None, logs, models=models, default_model="tiny") as connected:
        yield connected


def test_every_model_is_listed_with_its_state_and_reason(client: httpx.Client) -> None:
    listed = ModelList.model_validate_json(client.get("/v1/models").content).models
    assert [(model.name, model.version, model.state, model.default) for model in listed] == [
        ("damaged", None, "unavailable", False),
        ("raw", "1", "unavailable", False),
        ("second", "2", "ready", False),
        ("tiny", "1", "ready", True),
    ]
    reasons = [model.reason or "" for model in listed]
    assert "is not JSON" in reasons[0]
    assert "has no threshold yet; run `oodgate calibrate`" in reasons[1]
    assert reasons[2:] == ["", ""]


def test_the_default_model_answers_under_its_name_as_without(client: httpx.Client) -> None:
    varying = {"id", "timing_ms"}
    answers = [read_prediction(predict(client, PNG, model=model)) for model in ("", "tiny")]
    assert answers[0].model_dump(exclude=varying) == answers[1].model_dump(exclude=varying)
    batches = [read_batch(predict_batch(client, PNG, model=model))[0] for model in ("", "tiny")]
    assert batches[0].model_dump(exclude=varying) == batches[1].model_dump(exclude=varying)
    assert client.get("/v1/models/tiny").json() == client.get("/v1/model").json()


@pytest.mark.parametrize(("name", "folder"), [("tiny", "one"), ("second", "two")])
def test_each_model_answers_as_its_bundle_does_offline(
    client: httpx.Client, models: Path, name: str, folder: str
) -> None:
    (verdict,) = Gate(load_bundle(models / folder), "cpu").judge([np.asarray(random_picture(0))])
    assert isinstance(verdict, Verdict)
    answer = read_prediction(predict(client, PNG, model=name))
    (in_batch,) = read_batch(predict_batch(client, PNG, model=name))
    assert isinstance(in_batch, Prediction)
    for found in (answer, in_batch):
        assert found.ood.score == pytest.approx(verdict.score, abs=1e-5)
        assert found.model.name == name


def test_classes_carry_the_ids_and_parents_that_the_bundle_has(client: httpx.Client) -> None:
    entries = predict(client, PNG, model="second").json()["predictions"]
    parents = {"ant": ["insect", "animal"], "bee": ["insect", "animal"], "cat": ["animal"], "dog": []}
    assert {entry["class"]: entry["parents"] for entry in entries} == parents
    assert all(entry["id"] == CLASS_IDS[entry["index"]] for entry in entries)
    bare = predict(client, PNG, model="tiny").json()["predictions"]
    assert all(set(entry) == {"class", "index", "probability"} for entry in bare)


def test_a_description_tells_ids_and_parents_where_the_bundle_has_them(client: httpx.Client) -> None:
    described = client.get("/v1/models/second").json()
    ModelDescription.model_validate(described)
    assert (described["class_ids"], described["parents"]) == (list(CLASS_IDS), PARENTS)
    assert not {"class_ids", "parents"} & set(client.get("/v1/models/tiny").json())


def test_an_unknown_model_is_not_found(client: httpx.Client) -> None:
    for response in (
        predict(client, PNG, model="x"),
        predict_batch(client, PNG, model="x"),
        client.get("/v1/models/x"),
    ):
        assert "'x'" in read_problem(response, 404, "model_not_found").detail


@pytest.mark.parametrize(("name", "reason"), [("raw", "has no threshold"), ("damaged", "not JSON")])
def test_a_model_that_cannot_be_served_says_why(client: httpx.Client, name: str, reason: str) -> None:
    requests = (predict(client, PNG, model=name), predict_batch(client, PNG, model=name))
    for response in (*requests, client.get(f"/v1/models/{name}")):
        assert reason in read_problem(response, 503, "model_unavailable").detail
        assert response.headers["retry-after"] == "5"


@pytest.mark.parametrize("action", ["load", "unload", "drift/reset"])
@pytest.mark.parametrize("name", ["tiny", "x"])
def test_models_are_not_changed_unless_the_operator_allows_it(client: httpx.Client, name: str, action: str) -> None:
    problem = read_problem(client.post(f"/v1/models/{name}/{action}"), 403, "reload_disabled")
    assert "OODGATE_ALLOW_RELOAD" in problem.detail
    assert client.get("/readyz").status_code == 200


def test_every_served_model_has_series_of_its_own(client: httpx.Client) -> None:
    before = scrape(client)
    predict(client, PNG, model="second")
    after = scrape(client)
    for model, images in (({"model": "tiny", "version": "1"}, 0), ({"model": "second", "version": "2"}, 1)):
        assert value(after, "worker_up", **model) == 1
        for name in ("ood_score_count", "ood_p_value_count", "batch_size_count", "predictions_total"):
            assert value(after, name, **model) - value(before, name, **model) == images
    assert {dict(pairs).get("model") for _, pairs in after} == {None, "tiny", "second"}


def test_a_given_bundle_is_the_default_beside_the_others(
    start_server: StartServer, models: Path, bundle_folder: Path, tmp_path: Path
) -> None:
    install(models / "two", tmp_path / "models" / "two")
    server = start_server(bundle=bundle_folder, models=tmp_path / "models")
    with connect(server.url) as client:
        listed = ModelList.model_validate_json(client.get("/v1/models").content).models
        assert [(model.name, model.default) for model in listed] == [("second", False), ("tiny", True)]
        assert read_prediction(predict(client, PNG)).model.name == "tiny"


def test_a_service_whose_default_cannot_be_served_is_not_ready_and_serves_the_others(
    start_server: StartServer, models: Path
) -> None:
    with connect(start_server(models=models, default_model="raw").url) as client:
        for response in (client.get("/readyz"), client.get("/v1/model"), predict(client, PNG)):
            assert "has no threshold" in read_problem(response, 503, "model_unavailable").detail
        assert client.get("/v2/health/ready").status_code == 503
        read_prediction(predict(client, PNG, model="second"))

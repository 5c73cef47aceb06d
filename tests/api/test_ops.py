"""What operators ask: health, the model, the metrics after known requests."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from conftest import encoded, random_picture
from contract import Samples, predict, predict_batch, read_batch, read_prediction, scrape, serving, value
from networks import plain
from oodgate.api.schemas import Health, ModelDescription, Prediction
from oodgate.bundle import Bundle, load_bundle
from oodgate.observability.drift import DriftAlarm
from oodgate.observability.metrics import P_VALUE_EDGES

IMAGES = 12
MODEL = {"model": "tiny", "version": "1"}
ROUTES = {"/v1/predict", "/v1/predict/batch", "/v1/model", "/v1/models", "/v1/models/{name}", "/v2/models/{name}/infer"}
ROUTES |= {"/healthz", "/readyz", "/metrics", "/docs", "/openapi.json"}


@pytest.fixture(scope="module")
def bundle(bundle_folder: Path) -> Bundle:
    return load_bundle(bundle_folder)


@pytest.fixture(scope="module")
def client(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with serving(bundle_folder, tmp_path_factory.mktemp("logs"), drift_false_alarms=0.5) as connected:
        yield connected


@pytest.fixture(scope="module")
def predictions(client: httpx.Client) -> list[Prediction]:
    """The answers of the only images that this server decides."""
    pictures = [encoded(random_picture(seed)) for seed in range(IMAGES - 4)] + [plain("black")] * 4
    answers = [read_prediction(predict(client, picture)) for picture in pictures[:-2]]
    batch = read_batch(predict_batch(client, *pictures[-2:], b"no image"))
    return [*answers, *(result for result in batch if isinstance(result, Prediction))]


@pytest.fixture(scope="module")
def samples(client: httpx.Client, predictions: list[Prediction]) -> Samples:
    """The metrics after the predictions and after one of each of some problems."""
    assert len(predictions) == IMAGES
    assert predict(client, b"no image").status_code == 400
    assert predict(client, b"no image", "text/plain").status_code == 415
    assert predict(client, b"no image", top_k=0).status_code == 422
    assert client.get("/v1/predict").status_code == 405
    for index in range(5):
        assert client.get(f"/unknown/{index}").status_code == 404
    assert client.request("PROPFIND", "/healthz").status_code == 405
    return scrape(client)


def test_every_promised_metric_is_there(samples: Samples) -> None:
    names = {name for name, _ in samples}
    plain = ("http_requests_total", "predictions_total", "class_predictions_total", "ood_threshold", "queue_depth")
    plain += ("in_flight", "refused_total", "worker_up", "drift_evidence", "drift_alarm", "model_info", "ood_alpha")
    plain += ("queue_limit", "class_drift_alarm", "drift_uncounted", "quarantine_total")
    histograms = ("http_request_duration_seconds", "ood_p_value", "ood_score", "stage_duration_seconds", "batch_size")
    parts = [f"{name}_{part}" for name in histograms for part in ("bucket", "sum", "count")]
    assert {f"oodgate_{name}" for name in (*plain, *parts)} <= names


def test_no_counter_has_a_second_series_that_says_when_it_was_made(samples: Samples) -> None:
    assert [name for name, _ in samples if name.endswith("_created")] == []


def test_requests_are_counted_by_route_method_and_status(samples: Samples) -> None:
    counted = {
        (labels["route"], labels["method"], labels["status"]): count
        for (name, pairs), count in samples.items()
        if name == "oodgate_http_requests_total" and (labels := dict(pairs))
    }
    assert counted == {
        ("/v1/predict", "POST", "200"): IMAGES - 2,
        ("/v1/predict", "POST", "400"): 1,
        ("/v1/predict", "POST", "415"): 1,
        ("/v1/predict", "POST", "422"): 1,
        ("/v1/predict", "GET", "405"): 1,
        ("/v1/predict/batch", "POST", "200"): 1,
        ("other", "GET", "404"): 5,
        ("/healthz", "other", "405"): 1,
    }
    assert value(samples, "http_request_duration_seconds_count", route="/v1/predict") == IMAGES + 2
    assert value(samples, "http_request_duration_seconds_count", route="other") == 5


def test_problems_are_counted_by_code(samples: Samples) -> None:
    counted = {dict(pairs)["reason"]: count for (name, pairs), count in samples.items() if "refused_total" in name}
    assert counted == {
        "invalid_image": 2,  # one of them in the batch
        "not_an_image_type": 1,
        "invalid_parameter": 1,
        "method_not_allowed": 2,
        "not_found": 5,
    }


def test_predictions_are_counted_by_decision_and_class(samples: Samples, predictions: list[Prediction]) -> None:
    for decision in ("accept", "reject"):
        decided = [answer for answer in predictions if answer.decision == decision]
        assert value(samples, "predictions_total", **MODEL, decision=decision) == len(decided)
        for name in ("ant", "bee", "cat", "dog"):
            first = [answer for answer in decided if answer.predictions[0].class_name == name]
            labels = {**MODEL, "class": name, "decision": decision}
            assert value(samples, "class_predictions_total", **labels) == len(first)


def test_p_values_fall_into_their_buckets(samples: Samples, predictions: list[Prediction]) -> None:
    p_values = np.array([answer.ood.p_value for answer in predictions])
    for edge in P_VALUE_EDGES:
        assert value(samples, "ood_p_value_bucket", le=str(edge)) == np.sum(p_values <= edge)
    assert value(samples, "ood_p_value_count") == IMAGES
    assert value(samples, "ood_p_value_sum") == pytest.approx(p_values.sum())


def test_score_buckets_have_their_edges_at_the_calibration_quantiles(
    samples: Samples, predictions: list[Prediction], bundle: Bundle
) -> None:
    scores = np.array([answer.ood.score for answer in predictions])
    edges = {float(dict(pairs)["le"]): count for (name, pairs), count in samples.items() if "ood_score_bucket" in name}
    assert all(count == np.sum(scores <= edge) for edge, count in edges.items())
    calibration = bundle.state["calibration.scores"].double().numpy()
    for quantile in (0.001, 0.05, 0.5, 0.999):
        expected = np.quantile(calibration, quantile)
        assert min(abs(edge - expected) for edge in edges) < 1e-5
    assert value(samples, "ood_score_sum") == pytest.approx(scores.sum(), abs=1e-4)


def test_every_stage_of_every_image_is_timed(samples: Samples) -> None:
    for stage in ("decode", "queue", "forward", "score"):
        assert value(samples, "stage_duration_seconds_count", stage=stage) == IMAGES
        assert value(samples, "stage_duration_seconds_sum", stage=stage) > 0
    assert value(samples, "batch_size_sum") == IMAGES


def test_what_belongs_to_a_model_is_labelled_with_it(samples: Samples) -> None:
    own = (
        "predictions_",
        "class_predictions_",
        "ood_",
        "batch_size",
        "queue_",
        "worker_up",
        "drift_",
        "class_drift_alarm",
        "model_info",
    )
    for name, pairs in samples:
        labels = {key: label for key, label in pairs if key in MODEL}
        if name.startswith("oodgate_"):
            assert labels == (MODEL if name.removeprefix("oodgate_").startswith(own) else {}), name


def test_gauges_tell_the_state_of_the_service(samples: Samples, bundle: Bundle) -> None:
    assert value(samples, "ood_threshold") == pytest.approx(bundle.calibration.threshold)
    assert value(samples, "worker_up") == 1
    assert value(samples, "queue_depth") == 0
    assert value(samples, "queue_limit") == 512
    assert value(samples, "ood_alpha") == bundle.calibration.guarantee.alpha
    assert value(samples, "in_flight") == 1  # the scrape
    described = {"scorer": "nap-energy", "device": "cpu", "precision": "float32"}
    assert value(samples, "model_info", **MODEL, **described) == 1


def test_drift_evidence_follows_the_decisions(samples: Samples, predictions: list[Prediction], bundle: Bundle) -> None:
    alarm = DriftAlarm(bundle.calibration.guarantee.alpha, 0.5, bundle.calibration.class_alphas)
    for answer in predictions:
        alarm.update(answer.decision == "reject", answer.predictions[0].index)
    horizons = alarm.horizons()
    for horizon in ("long", "short"):
        assert value(samples, "drift_evidence", horizon=horizon) == pytest.approx(horizons[horizon].evidence)
        assert value(samples, "drift_alarm", horizon=horizon) == horizons[horizon].raised
    assert horizons["long"].raised  # the black pictures are like none of the calibration


def test_metrics_come_as_openmetrics_where_they_are_asked_for(client: httpx.Client) -> None:
    plain = client.get("/metrics", headers={"Accept": "text/plain"})
    assert plain.headers["content-type"].startswith("text/plain; version=")
    assert "# EOF" not in plain.text

    modern = client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert modern.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    families = {family.name: family for family in text_string_to_metric_families(modern.text)}
    assert families["oodgate_http_requests"].type == "counter"
    assert families["oodgate_model"].type == "info"


def test_routes_of_labels_are_those_of_the_service(client: httpx.Client) -> None:
    for path in ("/docs", "/openapi.json", "/healthz", "/readyz", "/v1/model", "/.env", "/v1/predict/1", "/docs/x"):
        client.get(path)
    for path in ("/v1/models", "/v1/models/a", "/v1/models/b", "/v2/models/a/infer", "/v2/x"):
        client.get(path)
    found = {labels["route"] for _, pairs in scrape(client) if "route" in (labels := dict(pairs))}
    assert found <= ROUTES | {"other"}


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_a_running_service_is_healthy_and_ready(client: httpx.Client, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 200
    assert Health.model_validate_json(response.content).status == "ok"


def test_the_model_is_described_as_in_its_bundle(client: httpx.Client, bundle: Bundle) -> None:
    described = ModelDescription.model_validate_json(client.get("/v1/model").content)
    manifest, calibration = bundle.manifest, bundle.calibration
    assert (described.name, described.version, described.classes) == ("tiny", "1", list(manifest.classes))
    assert described.preprocessing.model_dump() == manifest.preprocessing.model_dump()
    assert (described.scorer, described.w) == (calibration.scorer.name, calibration.scorer.w)
    assert described.threshold == calibration.threshold
    assert described.guarantee.model_dump() == calibration.guarantee.model_dump()
    assert (described.device, described.precision, described.measures) == ("cpu", "float32", {})
    assert (described.engine, described.notices) == (manifest.engine, list(manifest.notices))
    assert described.temperature == calibration.temperature


def test_the_documentation_page_shows_the_document(client: httpx.Client) -> None:
    page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "/openapi.json" in page.text
    assert client.get("/openapi.json").json()["info"]["title"] == "oodgate"

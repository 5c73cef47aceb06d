"""Metrics: names, labels, buckets and what is read at scrape time."""

from collections.abc import Iterator

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from oodgate.conformal import OTHER
from oodgate.observability.clients import ClientQuota
from oodgate.observability.drift import DriftAlarm
from oodgate.observability.drift_metrics import OTHER_CLASSES
from oodgate.observability.metrics import OUTCOMES, P_VALUE_EDGES, SCORE_QUANTILES, STAGES, Metrics, ModelMetrics

SCORES = np.sort(np.random.default_rng(0).normal(5, 1, 1000))
TINY = {"model": "tiny", "version": "1"}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


@pytest.fixture
def tiny(metrics: Metrics) -> ModelMetrics:
    return shown(metrics, "tiny", "1")


def shown(metrics: Metrics, name: str, version: str, scores: np.ndarray = SCORES) -> ModelMetrics:
    model = ModelMetrics(name, version, scores)
    metrics.models.show(model)
    return model


def edges(metrics: Metrics, name: str, **labels: str) -> list[float]:
    samples = [sample for family in metrics.registry.collect() for sample in family.samples]
    wanted = set(labels.items())
    return [
        float(sample.labels["le"])
        for sample in samples
        if sample.name == f"{name}_bucket" and wanted <= set(sample.labels.items())
    ]


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"oodgate_{name}", labels)


def series(metrics: Metrics) -> Iterator[tuple[str, dict[str, str]]]:
    """Every series of the text that is scraped."""
    for family in text_string_to_metric_families(generate_latest(metrics.registry).decode()):
        yield from ((sample.name, sample.labels) for sample in family.samples)


MODEL = {"model", "version"}
PROMISED = {
    "http_requests_total": {"route", "method", "status"},
    "http_request_duration_seconds_sum": {"route"},
    "predictions_total": {*MODEL, "decision"},
    "class_predictions_total": {*MODEL, "class", "decision"},
    "ood_p_value_sum": MODEL,
    "ood_score_sum": MODEL,
    "ood_threshold": MODEL,
    "ood_alpha": MODEL,
    "ood_clamped_total": MODEL,
    "stage_duration_seconds_sum": {"stage"},
    "batch_size_sum": MODEL,
    "queue_depth": MODEL,
    "queue_limit": MODEL,
    "in_flight": set(),
    "refused_total": {"reason"},
    "worker_up": MODEL,
    "drift_evidence": {*MODEL, "horizon"},
    "drift_alarm": {*MODEL, "horizon"},
    "class_drift_alarm": {*MODEL, "class"},
    "drift_uncounted": MODEL,
    "quarantine_total": {"outcome"},
    "model_info": MODEL,
}


@pytest.mark.parametrize("name", PROMISED)
def test_promised_metrics_are_there_with_their_labels(name: str, metrics: Metrics, tiny: ModelMetrics) -> None:
    metrics.http_requests.labels("/", "GET", "200")
    metrics.http_duration.labels("/")
    metrics.refused.labels("queue_full")
    tiny.describe({})
    alarm = DriftAlarm(0.05, 0.01, {OTHER: 0.1})
    alarm.update(rejected=False, predicted=0)
    tiny.watch_drift(alarm, ["ant"])
    tiny.count("cat", "accept", 5.0, 0.5, clamped=False)
    found = {frozenset(labels) for metric, labels in series(metrics) if metric == f"oodgate_{name}"}
    assert found == {frozenset(PROMISED[name])}


def test_every_metric_has_the_prefix_and_a_help_text(metrics: Metrics, tiny: ModelMetrics) -> None:
    families = list(metrics.registry.collect())
    assert all(family.name.startswith("oodgate_") for family in families)
    assert all(family.documentation.endswith(".") for family in families)


def test_images_are_counted_under_their_labels(metrics: Metrics, tiny: ModelMetrics) -> None:
    for decision, clamped in (("accept", False), ("accept", True), ("reject", False)):
        tiny.count("cat", decision, 5.0, 0.5, clamped)
    metrics.refused.labels("queue_full").inc()
    assert value(metrics, "predictions_total", **TINY, decision="accept") == 2
    assert value(metrics, "predictions_total", **TINY, decision="reject") == 1
    assert value(metrics, "class_predictions_total", **TINY, decision="accept", **{"class": "cat"}) == 2
    assert value(metrics, "ood_clamped_total", **TINY) == 1
    assert value(metrics, "refused_total", reason="queue_full") == 1


def test_score_edges_are_the_calibration_quantiles(metrics: Metrics, tiny: ModelMetrics) -> None:
    found = edges(metrics, "oodgate_ood_score")
    assert found[-1] == np.inf
    np.testing.assert_allclose(found[:-1], np.quantile(SCORES, SCORE_QUANTILES), rtol=1e-5)


@pytest.mark.parametrize(("scores", "count"), [(np.full(50, 2.5), 1), (np.array([1.0]), 1), (np.arange(3.0), None)])
def test_score_edges_ascend_where_calibration_scores_repeat(
    metrics: Metrics, scores: np.ndarray, count: int | None
) -> None:
    shown(metrics, "tiny", "1", scores)
    found = edges(metrics, "oodgate_ood_score")
    assert found == sorted(set(found))
    assert count is None or len(found) == count + 1


def test_p_value_edges_include_the_alphas_that_people_use(metrics: Metrics, tiny: ModelMetrics) -> None:
    assert edges(metrics, "oodgate_ood_p_value") == [*P_VALUE_EDGES, np.inf]
    assert {0.01, 0.05, 0.1, 1.0} <= set(P_VALUE_EDGES)


def test_an_observation_falls_into_its_bucket(metrics: Metrics, tiny: ModelMetrics) -> None:
    tiny.count("cat", "accept", score=5.0, p_value=0.03, clamped=False)
    assert value(metrics, "ood_p_value_bucket", **TINY, le="0.025") == 0
    assert value(metrics, "ood_p_value_bucket", **TINY, le="0.05") == 1
    assert value(metrics, "ood_p_value_sum", **TINY) == 0.03


def test_every_stage_is_there_before_its_first_observation(metrics: Metrics) -> None:
    assert [value(metrics, "stage_duration_seconds_count", stage=stage) for stage in STAGES] == [0.0] * len(STAGES)


def test_decisions_and_outcomes_are_there_before_the_first_image(metrics: Metrics, tiny: ModelMetrics) -> None:
    assert [value(metrics, "predictions_total", **TINY, decision=word) for word in ("accept", "reject")] == [0.0, 0.0]
    assert [value(metrics, "quarantine_total", outcome=word) for word in OUTCOMES] == [0.0] * len(OUTCOMES)


def test_the_worker_is_read_whenever_metrics_are_scraped(metrics: Metrics, tiny: ModelMetrics) -> None:
    state = {"worker_up": 1.0, "queue_depth": 3.0}
    tiny.watch(**{name: lambda name=name: state[name] for name in state})  # type: ignore[misc]
    assert {name: value(metrics, name, **TINY) for name in state} == state
    state.update(worker_up=0, queue_depth=0)
    assert {name: value(metrics, name, **TINY) for name in state} == state


def test_drift_is_told_by_horizon_and_by_class_until_it_is_reset(metrics: Metrics, tiny: ModelMetrics) -> None:
    alarm = DriftAlarm(0.05, 0.5, {1: 0.05, OTHER: 0.1}, quota=ClientQuota(20))
    tiny.watch_drift(alarm, ["ant", "bee", "cat"])
    assert value(metrics, "class_drift_alarm", **TINY, **{"class": "bee"}) is None
    for _ in range(20):
        alarm.update(rejected=True, predicted=1, client="loud")
    for _ in range(3):
        alarm.update(rejected=True, predicted=2, client="loud")
    alarm.update(rejected=False, predicted=0)
    horizons = alarm.horizons()
    for horizon in ("long", "short"):
        assert value(metrics, "drift_evidence", **TINY, horizon=horizon) == horizons[horizon].evidence
        assert value(metrics, "drift_alarm", **TINY, horizon=horizon) == 1
    assert value(metrics, "class_drift_alarm", **TINY, **{"class": "bee"}) == 1
    assert value(metrics, "class_drift_alarm", **TINY, **{"class": OTHER_CLASSES}) == 0
    assert value(metrics, "drift_uncounted", **TINY) == 3
    alarm.reset()
    assert value(metrics, "drift_alarm", **TINY, horizon="long") == 0
    assert value(metrics, "class_drift_alarm", **TINY, **{"class": "bee"}) is None
    assert value(metrics, "drift_uncounted", **TINY) == 0


def test_two_services_in_one_process_do_not_share_numbers() -> None:
    one, other = (Metrics(CollectorRegistry()) for _ in range(2))
    shown(one, "tiny", "1").batch_size.observe(4)
    shown(other, "tiny", "1")
    assert value(one, "batch_size_count", **TINY) == 1
    assert value(other, "batch_size_count", **TINY) == 0


def test_model_info_is_in_the_text_that_is_scraped(metrics: Metrics, tiny: ModelMetrics) -> None:
    tiny.describe({"scorer": "nap"})
    assert b'oodgate_model_info{model="tiny",scorer="nap",version="1"} 1.0' in generate_latest(metrics.registry)


def test_models_stand_beside_each_other_with_score_edges_of_their_own(metrics: Metrics) -> None:
    shown(metrics, "low", "1", SCORES).batch_size.observe(1)
    shown(metrics, "high", "7", SCORES + 100).batch_size.observe(2)
    assert max(edges(metrics, "oodgate_ood_score", model="low")[:-1]) < 20
    assert min(edges(metrics, "oodgate_ood_score", model="high")) > 90
    assert value(metrics, "batch_size_sum", model="low", version="1") == 1
    assert value(metrics, "batch_size_sum", model="high", version="7") == 2
    text = generate_latest(metrics.registry).decode()
    assert text.count("# TYPE oodgate_ood_score histogram") == 1
    names = [(name, tuple(sorted(labels.items()))) for name, labels in series(metrics)]
    assert len(set(names)) == len(names)


def test_a_hidden_version_leaves_no_series(metrics: Metrics) -> None:
    old, new = shown(metrics, "tiny", "1"), shown(metrics, "tiny", "2")
    old.count("cat", "accept", 5.0, 0.5, clamped=False)
    metrics.models.hide(old)
    assert {labels["version"] for _, labels in series(metrics) if "version" in labels} == {"2"}
    metrics.models.hide(new)
    assert not [name for name, labels in series(metrics) if "model" in labels]


def test_a_version_that_is_loaded_anew_stays_when_its_forerunner_is_hidden(metrics: Metrics) -> None:
    old, new = shown(metrics, "tiny", "1"), shown(metrics, "tiny", "1")
    new.batch_size.observe(3)
    metrics.models.hide(old)
    assert value(metrics, "batch_size_sum", **TINY) == 3

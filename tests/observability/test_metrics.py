"""Metrics: names, labels, buckets and what is read at scrape time."""

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from oodgate.observability.metrics import P_VALUE_EDGES, SCORE_QUANTILES, STAGES, Metrics

SCORES = np.sort(np.random.default_rng(0).normal(5, 1, 1000))


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry(), SCORES)


def edges(metrics: Metrics, name: str) -> list[float]:
    samples = [sample for family in metrics.registry.collect() for sample in family.samples]
    return [float(sample.labels["le"]) for sample in samples if sample.name == f"{name}_bucket"]


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"oodgate_{name}", labels)


PROMISED = {
    "http_requests_total": {"route", "method", "status"},
    "http_request_duration_seconds": {"route"},
    "predictions_total": {"model", "version", "decision"},
    "class_predictions_total": {"model", "version", "class", "decision"},
    "ood_p_value": set(),
    "ood_score": set(),
    "ood_threshold": set(),
    "stage_duration_seconds": {"stage"},
    "batch_size": set(),
    "queue_depth": set(),
    "in_flight": set(),
    "refused_total": {"reason"},
    "worker_up": set(),
    "drift_evidence": set(),
    "drift_alarm": set(),
}


@pytest.mark.parametrize("name", PROMISED)
def test_promised_metrics_are_there_with_their_labels(name: str, metrics: Metrics) -> None:
    collectors = [value for value in vars(metrics).values() if hasattr(value, "describe")]
    labels = {collector.describe()[0].name: set(collector._labelnames) for collector in collectors}
    assert labels[f"oodgate_{name}".removesuffix("_total")] == PROMISED[name]


def test_every_metric_has_the_prefix_and_a_help_text(metrics: Metrics) -> None:
    families = list(metrics.registry.collect())
    assert all(family.name.startswith("oodgate_") for family in families)
    assert all(family.documentation.endswith(".") for family in families)


def test_counters_count_under_their_labels(metrics: Metrics) -> None:
    metrics.predictions.labels("tiny", "1", "accept").inc()
    metrics.predictions.labels("tiny", "1", "accept").inc()
    metrics.predictions.labels("tiny", "1", "reject").inc()
    metrics.refused.labels("queue_full").inc()
    assert value(metrics, "predictions_total", model="tiny", version="1", decision="accept") == 2
    assert value(metrics, "predictions_total", model="tiny", version="1", decision="reject") == 1
    assert value(metrics, "refused_total", reason="queue_full") == 1


def test_score_edges_are_the_calibration_quantiles(metrics: Metrics) -> None:
    found = edges(metrics, "oodgate_ood_score")
    assert found[-1] == np.inf
    np.testing.assert_allclose(found[:-1], np.quantile(SCORES, SCORE_QUANTILES), rtol=1e-5)


@pytest.mark.parametrize(("scores", "count"), [(np.full(50, 2.5), 1), (np.array([1.0]), 1), (np.arange(3.0), None)])
def test_score_edges_ascend_where_calibration_scores_repeat(scores: np.ndarray, count: int | None) -> None:
    found = edges(Metrics(CollectorRegistry(), scores), "oodgate_ood_score")
    assert found == sorted(set(found))
    assert count is None or len(found) == count + 1


def test_p_value_edges_include_the_alphas_that_people_use(metrics: Metrics) -> None:
    assert edges(metrics, "oodgate_ood_p_value") == [*P_VALUE_EDGES, np.inf]
    assert {0.01, 0.05, 0.1, 1.0} <= set(P_VALUE_EDGES)


def test_an_observation_falls_into_its_bucket(metrics: Metrics) -> None:
    metrics.p_value.observe(0.03)
    assert value(metrics, "ood_p_value_bucket", le="0.025") == 0
    assert value(metrics, "ood_p_value_bucket", le="0.05") == 1
    assert value(metrics, "ood_p_value_sum") == 0.03


def test_every_stage_is_there_before_its_first_observation(metrics: Metrics) -> None:
    assert [value(metrics, "stage_duration_seconds_count", stage=stage) for stage in STAGES] == [0.0] * len(STAGES)


def test_the_worker_is_read_whenever_metrics_are_scraped(metrics: Metrics) -> None:
    state = {"alive": True, "depth": 3}
    metrics.watch_worker(lambda: bool(state["alive"]), lambda: int(state["depth"]))
    assert (value(metrics, "worker_up"), value(metrics, "queue_depth")) == (1, 3)
    state.update(alive=False, depth=0)
    assert (value(metrics, "worker_up"), value(metrics, "queue_depth")) == (0, 0)


def test_two_services_in_one_process_do_not_share_numbers() -> None:
    one, other = (Metrics(CollectorRegistry(), SCORES) for _ in range(2))
    one.batch_size.observe(4)
    assert value(one, "batch_size_count") == 1
    assert value(other, "batch_size_count") == 0


def test_model_info_is_in_the_text_that_is_scraped(metrics: Metrics) -> None:
    metrics.model_info.info({"model": "tiny", "version": "1"})
    assert b'oodgate_model_info{model="tiny",version="1"} 1.0' in generate_latest(metrics.registry)

"""Every Prometheus metric of the service: names, labels and buckets."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, Metric
from prometheus_client.registry import Collector

from oodgate.observability.drift import DriftAlarm
from oodgate.observability.drift_metrics import DriftMetrics

P_VALUE_EDGES = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SCORE_QUANTILES = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999)
STAGES = ("decode", "queue", "forward", "score")
DECISIONS = ("accept", "reject")
OUTCOMES = ("kept", "dropped", "failed")
_MODEL = ("model", "version")


class Metrics:
    """The metrics of one service, in the registry that they are given."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry

        def counter(name: str, text: str, labels: Sequence[str]) -> Counter:
            return Counter(f"oodgate_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, labels: Sequence[str]) -> Histogram:
            return Histogram(f"oodgate_{name}", text, labels, buckets=SECONDS, registry=registry)

        self.http_requests = counter("http_requests_total", "HTTP requests answered.", ("route", "method", "status"))
        self.http_duration = histogram(
            "http_request_duration_seconds", "From the end of the request's head to the end of the answer.", ("route",)
        )
        stage_duration = histogram("stage_duration_seconds", "Time of one stage.", ("stage",))
        self.stages = {stage: stage_duration.labels(stage) for stage in STAGES}
        self.in_flight = Gauge("oodgate_in_flight", "Requests being answered.", registry=registry)
        self.refused = counter("refused_total", "Requests or images answered with a problem, by its code.", ("reason",))
        quarantine = counter("quarantine_total", "Images that were to be kept, by what became of them.", ("outcome",))
        self.quarantine = {outcome: quarantine.labels(outcome) for outcome in OUTCOMES}
        self.models = ModelsCollector()
        registry.register(self.models)


class ModelMetrics:
    """The metrics of one version of a model, in a registry of their own."""

    def __init__(self, model: str, version: str, calibration_scores: NDArray[np.float64]) -> None:
        """`calibration_scores`, sorted, set the edges of the score histogram."""
        self.key = (model, version)
        self.registry = CollectorRegistry()

        def counter(name: str, text: str, labels: Sequence[str] = ()) -> Counter:
            return Counter(f"oodgate_{name}", text, (*_MODEL, *labels), registry=self.registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"oodgate_{name}", text, _MODEL, registry=self.registry).labels(*self.key)

        def histogram(name: str, text: str, edges: Sequence[float]) -> Histogram:
            metric = Histogram(f"oodgate_{name}", text, _MODEL, buckets=edges, registry=self.registry)
            return metric.labels(*self.key)

        predictions = counter("predictions_total", "Images decided.", ("decision",))
        self._decided = {decision: predictions.labels(*self.key, decision) for decision in DECISIONS}
        class_predictions = counter(
            "class_predictions_total", "Images decided, by predicted class.", ("class", "decision")
        )
        self._decided_of_class = cache(partial(class_predictions.labels, *self.key))
        self._p_value = histogram("ood_p_value", "p-values of the images decided.", P_VALUE_EDGES)
        self._score = histogram(
            "ood_score", "Scores of the images decided; edges are calibration quantiles.", _edges(calibration_scores)
        )
        clamped = counter("ood_clamped_total", "Images with a score that had to be clamped to be positive.")
        self._clamped = clamped.labels(*self.key)
        self.threshold = gauge("ood_threshold", "Score below which an image is rejected.")
        self.alpha = gauge("ood_alpha", "Share of in-distribution images that the threshold may reject.")
        self.batch_size = histogram("batch_size", "Images in one forward.", BATCH_SIZES)
        self.queue_limit = gauge("queue_limit", "Most images that may wait for the worker.")
        self._queue_depth = gauge("queue_depth", "Images waiting for the worker.")
        self._worker_up = gauge("worker_up", "1 while the worker that runs the model is alive.")
        self._watched: tuple[tuple[Gauge, Callable[[], float]], ...] = ()
        self._info = Info("oodgate_model", "A model that is served.", registry=self.registry)
        self.describe({})

    def describe(self, facts: Mapping[str, str]) -> None:
        """Say more about the model than its name and version."""
        self._info.info({**dict(zip(_MODEL, self.key, strict=True)), **facts})

    def count(self, predicted: str, decision: str, score: float, p_value: float, clamped: bool) -> None:
        """Take in one image that was decided."""
        self._decided[decision].inc()
        self._decided_of_class(predicted, decision).inc()
        self._score.observe(score)
        self._p_value.observe(p_value)
        if clamped:
            self._clamped.inc()

    def watch(self, worker_up: Callable[[], float], queue_depth: Callable[[], float]) -> None:
        """Read these whenever the metrics are scraped."""
        # Not by Gauge.set_function, which ties the gauge into a cycle with what it reads: a whole network in the end.
        self._watched = ((self._worker_up, worker_up), (self._queue_depth, queue_depth))

    def watch_drift(self, alarm: DriftAlarm, classes: Sequence[str]) -> None:
        """Read the alarm whenever the metrics are scraped; `classes` are the names in the order of the logits."""
        self.registry.register(DriftMetrics(alarm, self.key, classes))

    def collect(self) -> Iterable[Metric]:
        """Every metric of the model as it is now."""
        for gauge, read in self._watched:
            gauge.set(read())
        return self.registry.collect()


class ModelsCollector(Collector):
    """The series of the models that are served now, each metric under one name.

    A model's registry is asked when the metrics are scraped, so that every model has score edges of its own and its
    series end when it is hidden.
    """

    def __init__(self) -> None:
        self._shown: dict[tuple[str, str], ModelMetrics] = {}

    def show(self, model: ModelMetrics) -> None:
        """Expose a version of a model; the same version loaded anew takes the other's place."""
        self._shown[model.key] = model

    def hide(self, model: ModelMetrics) -> None:
        """End the series of a version, unless another load of it has taken its place."""
        if self._shown.get(model.key) is model:
            del self._shown[model.key]

    def collect(self) -> Iterator[Metric]:
        """Every metric of the models, with the samples of all of them."""
        families: dict[str, Metric] = {}
        for model in self._shown.values():
            for family in model.collect():
                if family.name in families:
                    families[family.name].samples.extend(family.samples)
                else:
                    families[family.name] = family
        yield from families.values()


def _edges(calibration_scores: NDArray[np.float64]) -> list[float]:
    """Distinct quantiles of the calibration scores, ascending."""
    quantiles = np.quantile(calibration_scores, SCORE_QUANTILES)
    return [float(edge) for edge in np.unique([float(f"{quantile:.6g}") for quantile in quantiles])]

"""Every Prometheus metric of the service: names, labels and buckets."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

P_VALUE_EDGES = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SCORE_QUANTILES = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999)
STAGES = ("decode", "queue", "forward", "score")


class Metrics:
    """The metrics of one service, in the registry that they are given."""

    def __init__(self, registry: CollectorRegistry, calibration_scores: NDArray[np.float64]) -> None:
        """`calibration_scores`, sorted, set the edges of the score histogram."""
        self.registry = registry

        def counter(name: str, text: str, labels: Sequence[str] = ()) -> Counter:
            return Counter(f"oodgate_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"oodgate_{name}", text, registry=registry)

        def histogram(name: str, text: str, edges: Sequence[float], labels: Sequence[str] = ()) -> Histogram:
            return Histogram(f"oodgate_{name}", text, labels, buckets=edges, registry=registry)

        http = ("route", "method", "status")
        self.http_requests = counter("http_requests_total", "HTTP requests answered.", http)
        self.http_duration = histogram(
            "http_request_duration_seconds", "From the request's first byte to the answer's last.", SECONDS, ("route",)
        )
        decided = ("model", "version", "decision")
        self.predictions = counter("predictions_total", "Images decided.", decided)
        self.class_predictions = counter(
            "class_predictions_total", "Images decided, by predicted class.", ("model", "version", "class", "decision")
        )
        self.p_value = histogram("ood_p_value", "p-values of the images decided.", P_VALUE_EDGES)
        self.score = histogram(
            "ood_score", "Scores of the images decided; edges are calibration quantiles.", _edges(calibration_scores)
        )
        self.threshold = gauge("ood_threshold", "Score below which an image is rejected.")
        self.clamped = counter("ood_clamped_total", "Images with a score that had to be clamped to be positive.")
        self.stage_duration = histogram("stage_duration_seconds", "Time of one stage.", SECONDS, ("stage",))
        self.batch_size = histogram("batch_size", "Images in one forward.", BATCH_SIZES)
        self.queue_depth = gauge("queue_depth", "Images waiting for the worker.")
        self.in_flight = gauge("in_flight", "Requests being answered.")
        self.refused = counter("refused_total", "Requests or images answered with a problem, by its code.", ("reason",))
        self.worker_up = gauge("worker_up", "1 while the worker that owns the device is alive.")
        self.drift_evidence = gauge(
            "drift_evidence", "log10 of the evidence that rejections exceed their calibrated rate."
        )
        self.drift_alarm = gauge("drift_alarm", "1 once the drift evidence has passed its limit.")
        self.model_info = Info("oodgate_model", "The model that is served.", registry=registry)
        for stage in STAGES:
            self.stage_duration.labels(stage)

    def watch_worker(self, alive: Callable[[], bool], depth: Callable[[], int]) -> None:
        """Read the worker's state whenever the metrics are scraped."""
        self.worker_up.set_function(lambda: float(alive()))
        self.queue_depth.set_function(lambda: float(depth()))


def _edges(calibration_scores: NDArray[np.float64]) -> list[float]:
    """Distinct quantiles of the calibration scores, ascending."""
    quantiles = np.quantile(calibration_scores, SCORE_QUANTILES)
    return [float(edge) for edge in np.unique([float(f"{quantile:.6g}") for quantile in quantiles])]

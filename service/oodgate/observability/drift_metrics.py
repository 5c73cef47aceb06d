"""The drift alarm of one version of a model as Prometheus metrics, read when they are scraped."""

from collections.abc import Iterator, Mapping, Sequence

from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from oodgate.conformal import OTHER
from oodgate.observability.drift import DriftAlarm

OTHER_CLASSES = "all other classes"
"""Name of the group of classes that have no bound of their own."""


def class_label(index: int, classes: Sequence[str]) -> str:
    """What a watched class, or the group of all others, is called."""
    return OTHER_CLASSES if index == OTHER else classes[index]


class DriftMetrics(Collector):
    """The series of one alarm; those of a class begin with its first image."""

    def __init__(self, alarm: DriftAlarm, model: tuple[str, str], classes: Sequence[str]) -> None:
        """`model` is name and version, `classes` are the names in the order of the logits."""
        self._alarm = alarm
        self._model = model
        self._classes = classes

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Evidence and alarms as they are now."""
        horizons, classes = self._alarm.horizons(), self._alarm.classes()
        yield self._family(
            "oodgate_drift_evidence",
            "log10 of the evidence that rejections exceed their calibrated rate.",
            "horizon",
            {name: signal.evidence for name, signal in horizons.items()},
        )
        yield self._family(
            "oodgate_drift_alarm",
            "1 once the drift evidence has passed its limit, until it is reset.",
            "horizon",
            {name: signal.raised for name, signal in horizons.items()},
        )
        yield self._family(
            "oodgate_class_drift_alarm",
            "1 once the drift evidence within a predicted class has passed its limit, until it is reset.",
            "class",
            {class_label(index, self._classes): signal.raised for index, signal in classes.items()},
        )
        uncounted = "Images since the last reset that the drift alarm leaves out, beyond what their client may add."
        family = GaugeMetricFamily("oodgate_drift_uncounted", uncounted, labels=("model", "version"))
        family.add_metric(self._model, self._alarm.uncounted)
        yield family

    def _family(self, name: str, text: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
        family = GaugeMetricFamily(name, text, labels=("model", "version", label))
        for key, value in values.items():
            family.add_metric((*self._model, key), value)
        return family

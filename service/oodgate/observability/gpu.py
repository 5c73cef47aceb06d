"""Utilisation and memory of the GPUs as Prometheus metrics, where NVIDIA's management library answers."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

_UTILISATION = "oodgate_gpu_utilisation_ratio"
_USED = "oodgate_gpu_memory_used_bytes"
_TOTAL = "oodgate_gpu_memory_total_bytes"


class GpuCollector(Collector):
    """The GPUs that the process can see, asked when the metrics are scraped."""

    def __init__(self, nvml: Any) -> None:
        """`nvml` is the module `pynvml`; raises what it raises where there is no driver."""
        nvml.nvmlInit()
        self._nvml = nvml
        self._gpus = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """What each GPU tells of itself; one that does not answer is left out."""
        nvml = self._nvml
        yield self._family(
            _UTILISATION,
            "Share of the last moments in which the GPU worked.",
            lambda gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100,
        )
        yield self._family(
            _USED, "Memory of the GPU in use, by any process.", lambda gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).used
        )
        yield self._family(_TOTAL, "Memory of the GPU.", lambda gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).total)

    def _family(self, name: str, text: str, read: Callable[[Any], float]) -> GaugeMetricFamily:
        family = GaugeMetricFamily(name, text, labels=("gpu",))
        for index, gpu in enumerate(self._gpus):
            with suppress(Exception):  # a part of a GPU has no utilisation, and one can fall off the bus
                family.add_metric((str(index),), read(gpu))
        return family


def gpu_collector() -> GpuCollector | None:
    """The collector, or None where `pynvml` is not installed or finds no driver."""
    try:
        import pynvml

        return GpuCollector(pynvml)
    except Exception:  # no package, no library, no right to ask: a service without these metrics
        return None

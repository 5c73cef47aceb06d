"""GPUs as NVIDIA's management library tells of them, which stands in for itself here."""

import sys
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from oodgate.observability.gpu import GpuCollector, gpu_collector


def nvml(**functions: object) -> SimpleNamespace:
    """The module with two GPUs, of which the second does not say how busy it is."""
    busy = {0: SimpleNamespace(gpu=25, memory=7)}
    working = {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetUtilizationRates": lambda gpu: busy[gpu],
        "nvmlDeviceGetMemoryInfo": lambda gpu: SimpleNamespace(used=10 + gpu, total=100 + gpu),
    }
    return SimpleNamespace(**(working | functions))


def no_driver() -> None:
    raise OSError("no driver")


def test_each_gpu_has_series_and_one_that_does_not_answer_fails_no_scrape() -> None:
    registry = CollectorRegistry()
    registry.register(GpuCollector(nvml()))
    samples = [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]
    assert samples == [
        'oodgate_gpu_utilisation_ratio{gpu="0"} 0.25',
        'oodgate_gpu_memory_used_bytes{gpu="0"} 10.0',
        'oodgate_gpu_memory_used_bytes{gpu="1"} 11.0',
        'oodgate_gpu_memory_total_bytes{gpu="0"} 100.0',
        'oodgate_gpu_memory_total_bytes{gpu="1"} 101.0',
    ]


@pytest.mark.parametrize("module", [None, nvml(nvmlInit=no_driver)], ids=["no package", "no driver"])
def test_without_the_library_there_is_no_collector(module: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", module)  # type: ignore[arg-type]
    assert gpu_collector() is None


def test_with_the_library_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml())  # type: ignore[arg-type]
    assert isinstance(gpu_collector(), GpuCollector)

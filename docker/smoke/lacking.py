"""What this gate cannot show, as `START_OF_ITS_METRICS=WHY` lines; runs in the gate's container."""

from oodgate.bundle import load_bundle
from oodgate.observability.gpu import gpu_collector
from oodgate.settings import Settings

if gpu_collector() is None:
    print("oodgate_gpu_=no NVML in the container")  # noqa: T201
if not load_bundle(Settings().bundle).calibration.class_alphas:
    print("oodgate_class_drift_alarm=no bounds of classes in the bundle")  # noqa: T201

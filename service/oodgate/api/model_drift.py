"""The drift alarm of one calibrated model, and the file that keeps it over a restart."""

import hashlib
from contextlib import suppress

from oodgate.bundle import MODEL_FILES, Guarantee
from oodgate.conformal import rate_bound
from oodgate.gate import Gate
from oodgate.observability.clients import ClientQuota
from oodgate.observability.drift import DriftAlarm
from oodgate.observability.drift_store import DriftStore
from oodgate.settings import Settings

_DELTA = 0.05  # as a PAC threshold's by default


class ModelDrift:
    """An alarm, and its file where there is a folder for it.

    Two loads of the same bundle have one between them: no image is lost, and no file has two writers.
    """

    def __init__(self, gate: Gate, settings: Settings) -> None:
        """Go on from the file where there is one, and keep it up to date."""
        calibration, rate = gate.calibration, settings.drift_client_rate
        self.identity = identity_of(gate)
        self.alarm = DriftAlarm(
            certain_rate(calibration.guarantee),
            settings.drift_false_alarms,
            calibration.class_alphas,
            self.identity,
            ClientQuota(rate) if rate else None,
        )
        self._store: DriftStore | None = None
        if settings.state_dir:
            self._store = DriftStore(
                settings.state_dir / f"drift-{gate.manifest.name}-{self.identity}.json", self.alarm
            )
            self._store.start()

    def reset(self) -> None:
        """Forget all evidence and end the alarms; may wait for the disk."""
        self.alarm.reset()
        if self._store:
            with suppress(OSError):  # the store tries again, and complains
                self._store.save()

    def close(self) -> None:
        """Write for the last time; may wait for the disk."""
        if self._store:
            self._store.close()


def certain_rate(guarantee: Guarantee) -> float:
    """What the rejection rate without drift stays below for the calibration at hand, with high probability.

    A marginal threshold keeps its alpha on average over calibrations only: nearly half of them reject more, and
    evidence against alpha would raise the alarm without drift.
    """
    if guarantee.kind == "pac":
        return guarantee.alpha
    return rate_bound(guarantee.rank - 1, guarantee.images, _DELTA)


def identity_of(gate: Gate) -> str:
    """The same for two gates exactly where the images of both are one stream to bet on."""
    manifest, calibration = gate.manifest, gate.calibration
    network = manifest.files[MODEL_FILES[manifest.engine]]
    bounds = (calibration.threshold, certain_rate(calibration.guarantee), sorted(calibration.class_alphas.items()))
    return hashlib.sha256(repr((manifest.name, manifest.version, network, bounds)).encode()).hexdigest()[:16]

"""The drift alarm: evidence that images are rejected more often than the threshold's calibration allows."""

from threading import Lock

import numpy as np

from oodgate.conformal import STAKES, drift_evidence, drift_log_wealths


class DriftAlarm:
    """Bets on the reject flags of a stream of images.

    Without drift the alarm is ever raised with probability at most `false_alarms`, however long the stream, where
    the threshold is a PAC one. Once raised it stays.
    """

    def __init__(self, alpha: float, false_alarms: float) -> None:
        self._alpha = alpha
        self._limit = -np.log10(false_alarms)
        self._log_wealths = np.zeros(len(STAKES))
        self._lock = Lock()
        self.evidence = 0.0  # log10
        self.raised = False

    def update(self, rejected: bool) -> None:
        """Take in one decision."""
        with self._lock:
            self._log_wealths = drift_log_wealths(self._log_wealths, rejected, self._alpha)
            self.evidence = drift_evidence(self._log_wealths)
            self.raised = self.raised or self.evidence >= self._limit

"""The drift alarm over streams of decisions."""

import threading

import numpy as np
import pytest

from oodgate.conformal import STAKES, drift_evidence, drift_log_wealths
from oodgate.observability.drift import DriftAlarm


def fed(flags: list[bool] | np.ndarray, alpha: float = 0.05, false_alarms: float = 0.01) -> DriftAlarm:
    alarm = DriftAlarm(alpha, false_alarms)
    for flag in flags:
        alarm.update(bool(flag))
    return alarm


def test_a_new_alarm_is_silent() -> None:
    alarm = DriftAlarm(0.05, 0.01)
    assert (alarm.evidence, alarm.raised) == (0.0, False)


def test_evidence_is_that_of_the_bets() -> None:
    flags = [True, False, False, True, False]
    log_wealths = np.zeros(len(STAKES))
    for flag in flags:
        log_wealths = drift_log_wealths(log_wealths, flag, 0.1)
    assert fed(flags, alpha=0.1).evidence == drift_evidence(log_wealths)


def test_rejections_raise_the_evidence_and_acceptances_lower_it() -> None:
    assert fed([True]).evidence > 0 > fed([False]).evidence


def test_alarm_is_raised_when_the_evidence_reaches_the_limit() -> None:
    alarm, evidences = DriftAlarm(0.05, 0.01), []
    while not alarm.raised:
        alarm.update(True)
        evidences.append(alarm.evidence)
    assert evidences[-1] >= 2 > evidences[-2]  # log10(1 / .01)


def test_a_smaller_share_of_false_alarms_asks_for_more_evidence() -> None:
    flags = [True] * 3
    assert fed(flags, false_alarms=0.1).raised
    assert not fed(flags, false_alarms=1e-6).raised


def test_alarm_stays_after_the_evidence_is_gone() -> None:
    alarm = fed([True] * 5 + [False] * 2000)
    assert alarm.evidence < 0
    assert alarm.raised


def test_a_clean_stream_keeps_silent() -> None:
    assert not fed(np.random.default_rng(0).random(5000) < 0.05).raised


def test_a_stream_with_three_times_the_rejections_alarms() -> None:
    assert fed(np.random.default_rng(0).random(1000) < 0.15).raised


@pytest.mark.parametrize("flag", [True, False])
def test_evidence_of_a_long_uniform_stream_stays_finite(flag: bool) -> None:
    assert np.isfinite(fed([flag] * 5000).evidence)


def test_no_update_is_lost_between_threads() -> None:
    alarm, start = DriftAlarm(0.05, 0.01), threading.Barrier(4)

    def feed(flag: bool) -> None:
        start.wait()
        for _ in range(500):
            alarm.update(flag)

    threads = [threading.Thread(target=feed, args=(flag,)) for flag in (True, False, False, False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert alarm.evidence == pytest.approx(fed([True] * 500 + [False] * 1500).evidence, rel=1e-9)

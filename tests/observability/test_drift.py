"""The drift alarm over streams of decisions."""

import json
import math
import threading
from collections.abc import Iterable, Mapping
from itertools import count

import numpy as np
import pytest

from bets import ManyBets
from oodgate.conformal import BLOCK, OTHER, DriftBets
from oodgate.observability.clients import ClientQuota
from oodgate.observability.drift import DriftAlarm

CLASSES = {0: 0.02, 2: 0.1, OTHER: 0.05}


def alarm_of(**options: object) -> DriftAlarm:
    return DriftAlarm(**{"alpha": 0.05, "false_alarms": 0.01} | options)  # type: ignore[arg-type]


def fed(flags: Iterable[bool], **options: object) -> DriftAlarm:
    alarm = alarm_of(**options)
    for flag in flags:
        alarm.update(bool(flag))
    return alarm


def stream(images: int, rate: float = 0.05, classes: int = 4) -> list[tuple[bool, int]]:
    noise = np.random.default_rng(0)
    return list(zip((noise.random(images) < rate).tolist(), noise.integers(0, classes, images).tolist(), strict=True))


def signals(alarm: DriftAlarm) -> object:
    return alarm.horizons(), alarm.classes(), alarm.raised


def test_a_new_alarm_is_silent() -> None:
    alarm = alarm_of(class_alphas=CLASSES)
    assert (alarm.evidence, alarm.raised, alarm.classes()) == (0.0, False, {})
    assert {name: (signal.evidence, signal.raised) for name, signal in alarm.horizons().items()} == {
        "long": (0.0, False),
        "short": (0.0, False),
    }


def test_evidence_is_that_of_the_bets() -> None:
    flags, bets = [True, False, False, True, False], DriftBets(0.1)
    for flag in flags:
        bets.update(flag)
    found = fed(flags, alpha=0.1)
    assert found.horizons()["long"].evidence == bets.long()
    assert found.horizons()["short"].evidence == bets.short()
    assert found.evidence == max(bets.long(), bets.short())


def test_rejections_raise_the_evidence_and_acceptances_lower_it() -> None:
    assert fed([True]).evidence > 0 > fed([False]).evidence


@pytest.mark.parametrize("horizon", ["long", "short"])
@pytest.mark.parametrize(("class_alphas", "share"), [({}, 0.005), (CLASSES, 0.0025)])
def test_each_horizon_alarms_at_its_share_of_the_false_alarms(
    horizon: str, class_alphas: Mapping[int, float], share: float
) -> None:
    alarm, evidences = alarm_of(class_alphas=class_alphas), [0.0]
    while not alarm.horizons()[horizon].raised:
        alarm.update(True)
        evidences.append(alarm.horizons()[horizon].evidence)
    assert evidences[-1] >= -math.log10(share) > evidences[-2]


def test_the_watched_classes_share_half_of_the_false_alarms() -> None:
    alarm, bets = alarm_of(class_alphas=CLASSES), DriftBets(CLASSES[2])
    evidences = [0.0]
    while not (alarm.classes() and alarm.classes()[2].raised):
        alarm.update(True, 2)
        bets.update(True)
        evidences.append(alarm.classes()[2].evidence)
    assert evidences[-1] == bets.both()
    assert evidences[-1] >= -math.log10(0.005 / 3) > evidences[-2]


def test_a_class_without_a_bound_counts_among_the_others() -> None:
    alarm = alarm_of(class_alphas=CLASSES)
    for predicted in (1, 3, 0):
        alarm.update(True, predicted)
    both = DriftBets(CLASSES[OTHER])
    for _ in range(2):
        both.update(True)
    assert set(alarm.classes()) == {0, OTHER}
    assert alarm.classes()[OTHER].evidence == both.both()


def test_a_class_is_not_watched_where_neither_it_nor_the_others_have_a_bound() -> None:
    alarm = alarm_of(class_alphas={0: 0.05})
    alarm.update(True, 1)
    alarm.update(True)
    assert alarm.classes() == {}
    assert alarm.horizons()["long"].evidence > 0


def test_drift_in_one_class_alarms_there_while_the_whole_keeps_silent() -> None:
    alarm = alarm_of(class_alphas={0: 0.05, 1: 0.05})
    for position, flag in enumerate((np.random.default_rng(0).random(1500) < 0.3).tolist()):
        alarm.update(flag, 0) if position % 10 == 0 else alarm.update(False, 1)
    assert alarm.classes()[0].raised and alarm.raised
    assert not alarm.classes()[1].raised
    assert not any(signal.raised for signal in alarm.horizons().values())


def test_a_smaller_share_of_false_alarms_asks_for_more_evidence() -> None:
    flags = [True] * 3
    assert fed(flags, false_alarms=0.1).raised
    assert not fed(flags, false_alarms=1e-6).raised


def test_an_alarm_stays_after_the_evidence_is_gone() -> None:
    alarm = fed([True] * 5 + [False] * 2000)
    assert alarm.evidence < 0
    assert alarm.raised


def test_a_reset_forgets_evidence_and_alarms() -> None:
    alarm = alarm_of(class_alphas=CLASSES)
    for _ in range(20):
        alarm.update(True, 2)
    alarm.reset()
    assert signals(alarm) == signals(alarm_of(class_alphas=CLASSES))
    alarm.update(True, 2)
    assert alarm.evidence == fed([True]).evidence


def test_a_stream_with_three_times_the_rejections_alarms() -> None:
    assert fed(np.random.default_rng(0).random(1000) < 0.15).raised


def test_ten_clean_classes_and_the_whole_alarm_at_most_at_the_nominal_rate() -> None:
    streams, images, level = 500, 10_000, 0.05
    alphas = np.linspace(0.01, 0.1, 10)
    noise, rows = np.random.default_rng(1), np.arange(streams)
    total, classes = ManyBets(np.full(streams, alphas.mean())), ManyBets(np.tile(alphas, streams))
    of_total, of_classes = np.zeros(streams), np.zeros(10 * streams)
    for _ in range(images):
        predicted = noise.integers(0, 10, streams)
        flags, watched = noise.random(streams) < alphas[predicted], 10 * rows + predicted
        total.update(slice(None), flags)
        classes.update(watched, flags)
        np.maximum(of_total, np.maximum(total.long(), total.short()), out=of_total)
        of_classes[watched] = np.maximum(of_classes[watched], classes.both(watched))
    by_class = (of_classes >= 1 / (level / 2 / 10)).reshape(streams, 10)
    assert by_class.any(1).mean() <= level / 2
    assert (by_class.any(1) | (of_total >= 1 / (level / 4))).mean() <= level
    assert (of_classes >= 20).mean() > 0.005  # not silent for want of sense


@pytest.mark.parametrize("cut", [0, 1, 3, BLOCK, 2 * BLOCK + 17])
def test_a_restored_alarm_goes_on_as_if_never_interrupted(cut: int) -> None:
    decisions = stream(3 * BLOCK, rate=0.1)
    first, second, whole = (alarm_of(class_alphas=CLASSES, identity="one") for _ in range(3))
    for decision in decisions[:cut]:
        first.update(*decision)
    assert second.restore(json.loads(json.dumps(first.state())))
    assert signals(second) == signals(first)
    for decision in decisions[cut:]:
        second.update(*decision)
    for decision in decisions:
        whole.update(*decision)
    assert signals(second) == signals(whole)
    assert second.state() == whole.state()


def test_a_raised_alarm_is_raised_after_it_is_restored() -> None:
    alarm = fed([True] * 5 + [False] * 2000)
    restored = alarm_of()
    assert restored.restore(alarm.state())
    assert restored.raised
    restored.update(True)
    assert restored.raised


@pytest.mark.parametrize(
    "options", [{"identity": "other"}, {"alpha": 0.1}, {"class_alphas": {0: 0.02}}, {"class_alphas": None}]
)
def test_the_state_of_another_threshold_is_refused(options: dict[str, object]) -> None:
    state = fed([True], class_alphas=CLASSES, identity="mine").state()
    alarm = alarm_of(**{"class_alphas": CLASSES, "identity": "mine"} | options)
    assert not alarm.restore(state)
    assert alarm.evidence == 0


def test_another_level_takes_up_the_evidence() -> None:
    alarm = alarm_of(false_alarms=0.5)
    assert alarm.restore(fed([True]).state())
    assert alarm.evidence == fed([True]).evidence


@pytest.mark.parametrize("damage", [None, 3, [], {}, {"identity": "x"}, "nothing"])
def test_a_state_that_is_none_is_refused(damage: object) -> None:
    assert not alarm_of().restore(damage)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("images", -1),
        ("images", "1"),
        ("images", True),
        ("rejected", 3),
        ("recent", []),
        ("recent", [0.1] * 7),
        ("recent", [-0.1] * 6),
        ("recent", [float("nan")] * 6),
        ("recent", [float("inf")] * 6),
        ("recent", None),
        ("raised", ["unheard"]),
        ("raised", ["long", "long"]),
        ("unheard", 1),
    ],
)
@pytest.mark.parametrize("of_class", [False, True])
def test_a_damaged_state_is_refused_and_changes_nothing(field: str, value: object, of_class: bool) -> None:
    alarm = alarm_of(class_alphas=CLASSES)
    for flag in (True, False):
        alarm.update(flag, 0)
    state, before = alarm.state(), signals(alarm)
    (state["classes"]["0"] if of_class else state["overall"])[field] = value
    assert not alarm.restore(state)
    assert signals(alarm) == before


@pytest.mark.parametrize("key", ["1", "-2", "ant", ""])
def test_a_state_of_a_class_that_is_not_watched_is_refused(key: str) -> None:
    alarm = fed([True], class_alphas=CLASSES)
    state = alarm.state()
    state["classes"][key] = state["overall"]
    assert not alarm.restore(state)


def test_no_update_is_lost_between_threads() -> None:
    alarm, start = alarm_of(class_alphas=CLASSES), threading.Barrier(4)

    def feed(flag: bool) -> None:
        start.wait()
        for _ in range(500):
            alarm.update(flag, 2)
            alarm.state()

    threads = [threading.Thread(target=feed, args=(flag,)) for flag in (True, False, False, False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for watch in (alarm.state()["overall"], alarm.state()["classes"]["2"]):
        assert (watch["images"], watch["rejected"]) == (2000, 500)
    assert alarm.horizons()["long"].evidence == pytest.approx(
        fed([True] * 500 + [False] * 1500).horizons()["long"].evidence, rel=1e-9
    )


def test_a_noisy_client_raises_no_alarm_and_its_quota_is_kept() -> None:
    clock = count(0, 0.01)
    alarm = alarm_of(quota=ClientQuota(2, clock=lambda: next(clock)))
    flags = np.random.default_rng(0).random(3000) < 0.04
    for position, flag in enumerate(flags.tolist()):  # 60 seconds: 2 at once and 2 more
        alarm.update(True, client="noisy")
        alarm.update(flag, client=f"client {position % 1500}")
    assert not alarm.raised
    assert alarm.uncounted == 3000 - 3
    assert alarm.state()["overall"]["images"] == 3000 + 3


def test_images_of_no_known_client_all_count() -> None:
    alarm = alarm_of(quota=ClientQuota(1, clock=lambda: 0.0))
    for _ in range(5):
        alarm.update(True)
    assert (alarm.state()["overall"]["images"], alarm.uncounted) == (5, 0)

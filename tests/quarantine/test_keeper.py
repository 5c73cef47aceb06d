"""The service's side: nothing waits for the disk, and nothing ends the writer."""

import errno
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep

import pytest
from structlog.testing import capture_logs

from oodgate.quarantine import keeper
from oodgate.quarantine.archive import Bounds, open_archive
from oodgate.quarantine.files import LocalFiles
from oodgate.quarantine.keeper import KeeperLimits, Quarantine
from quarantined import DAY_S, ROOMY, kept, png, record, seconds

MakeKeeper = Callable[..., Quarantine]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[MakeKeeper]:
    """A keeper of tmp_path that runs, or with start=False not yet; it ends with the test."""
    made: list[Quarantine] = []

    def keeper_of(start: bool = True, bounds: Bounds = ROOMY, **options: object) -> Quarantine:
        limits = {name: options.pop(name) for name in list(options) if name in KeeperLimits.__dataclass_fields__}
        archive = open_archive(str(tmp_path), create=True)
        options = {"clock": lambda: 1000.0} | options
        made.append(Quarantine(archive, bounds, KeeperLimits(**limits), **options))  # type: ignore[arg-type]
        if start:
            made[0].start()
        return made[0]

    yield keeper_of
    for one in made:
        one.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "oodgate-quarantine"]


def until(condition: Callable[[], bool]) -> None:
    deadline = monotonic() + 60
    while not condition():
        assert monotonic() < deadline
        sleep(0.005)


class Disk:
    """Stands in for the writing of files: blocked, or full."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.error: Exception | None = None
        self.free = threading.Event()
        self.free.set()
        self.busy = threading.Event()
        write = LocalFiles.write

        def stubborn(files: LocalFiles, name: str, data: bytes) -> None:
            self.busy.set()
            self.free.wait(60)
            if self.error:
                raise self.error
            write(files, name, data)

        monkeypatch.setattr(LocalFiles, "write", stubborn)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def test_what_was_offered_is_written_when_it_is_closed(make: MakeKeeper, tmp_path: Path) -> None:
    heard: list[str] = []
    quarantine = make(on_outcome=heard.append)
    for seed in range(20):
        assert quarantine.offer(png(seed), record(1000 + seed))
    quarantine.close(60)
    assert quarantine.outcomes == {"kept": 20, "dropped": 0, "failed": 0}
    assert heard == ["kept"] * 20
    assert seconds(open_archive(str(tmp_path))) == list(range(20))


def test_a_full_queue_drops_and_counts_and_never_waits(make: MakeKeeper, disk: Disk) -> None:
    quarantine = make(max_queue=3)
    disk.free.clear()
    quarantine.offer(png(0), record())
    disk.busy.wait(60)
    start = monotonic()
    taken = [quarantine.offer(png(seed), record()) for seed in range(1, 100)]
    assert monotonic() - start < 5
    assert taken == [True] * 3 + [False] * 96
    assert quarantine.outcomes == {"kept": 0, "dropped": 96, "failed": 0}
    disk.free.set()
    until(lambda: quarantine.outcomes["kept"] == 4)


def test_what_waits_is_bounded_in_bytes(make: MakeKeeper) -> None:
    quarantine = make(start=False, max_queue_bytes=100)
    assert [quarantine.offer(b"x" * size, record()) for size in (60, 41, 40, 1)] == [True, False, True, False]
    quarantine.start()
    until(lambda: quarantine.outcomes["kept"] == 2)
    assert quarantine.offer(b"y" * 100, record())


def test_a_full_disk_fails_and_counts_and_the_writer_goes_on(make: MakeKeeper, disk: Disk, tmp_path: Path) -> None:
    disk.error = OSError(errno.ENOSPC, "No space left on device")
    with capture_logs() as logs:
        quarantine = make()
        for seed in range(5):
            quarantine.offer(png(seed), record())
        until(lambda: quarantine.outcomes["failed"] == 5)
    complaints = [entry for entry in logs if entry["log_level"] == "error"]
    assert len(complaints) == 1  # one a minute
    assert "No space left on device" in complaints[0]["reason"]
    disk.error = None
    quarantine.offer(png(9), record(1009))
    until(lambda: quarantine.outcomes["kept"] == 1)
    assert seconds(open_archive(str(tmp_path))) == [9]


def test_complaints_come_again_when_their_time_has_passed(
    make: MakeKeeper, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "LOG_EVERY_S", 0.0)
    disk.error = RuntimeError("the place's own error")
    with capture_logs() as logs:
        quarantine = make()
        for seed in range(3):
            quarantine.offer(png(seed), record())
        until(lambda: quarantine.outcomes["failed"] == 3)
    assert [entry["reason"] for entry in logs] == ["RuntimeError: the place's own error"] * 3


def test_accepted_images_are_not_kept_by_default(make: MakeKeeper) -> None:
    quarantine = make()
    assert not any(quarantine.offer(png(seed), record(decision="accept")) for seed in range(20))
    assert sum(quarantine.outcomes.values()) == 0


def test_accepted_images_are_sampled_and_rejected_ones_all_taken(make: MakeKeeper) -> None:
    quarantine = make(start=False, accepted_share=0.25, max_queue=10_000)
    taken = sum(quarantine.offer(b"%d" % seed, record(decision="accept")) for seed in range(2000))
    assert 400 <= taken <= 600
    assert all(quarantine.offer(b"%d" % seed, record()) for seed in range(100))


def test_a_record_tells_with_which_probability_it_was_kept(make: MakeKeeper, tmp_path: Path) -> None:
    quarantine = make(accepted_share=0.999999)
    quarantine.offer(png(0), record(1000, decision="accept"))
    quarantine.offer(png(1), record(1001))
    quarantine.close(60)
    assert [entry.share for entry in open_archive(str(tmp_path)).index.entries()] == [1.0, 0.999999]


def test_bounds_are_held_while_it_runs(make: MakeKeeper, tmp_path: Path) -> None:
    size = len(png(0))
    quarantine = make(bounds=Bounds(3 * size + size // 2, 30))
    for seed in range(30):
        quarantine.offer(png(seed), record(1000 + seed))
    quarantine.offer(b"x" * 4 * size, record())
    quarantine.close(60)
    assert quarantine.outcomes == {"kept": 30, "dropped": 1, "failed": 0}
    assert seconds(open_archive(str(tmp_path))) == [27, 28, 29]


def test_old_images_go_and_remains_are_repaired_at_the_start(make: MakeKeeper, tmp_path: Path) -> None:
    before = kept(tmp_path, 1, 2)
    before.files.write("ab" * 32 + ".png", b"stray")
    make(bounds=Bounds(10**9, 1), clock=lambda: 1000.5 + DAY_S).close(60)
    assert seconds(before) == [1]
    assert len(before.files.sizes()) == 1


def test_offers_of_many_threads_are_each_counted_once(make: MakeKeeper, tmp_path: Path) -> None:
    heard: Counter[str] = Counter()
    lock, barrier = threading.Lock(), threading.Barrier(8)

    def hear(outcome: str) -> None:
        with lock:
            heard[outcome] += 1

    quarantine = make(max_queue=20, on_outcome=hear)

    def offer(number: int) -> None:
        barrier.wait()
        for position in range(50):
            quarantine.offer(b"%d" % (position + 25 * number), record(1000 + position))

    threads = [threading.Thread(target=offer, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    quarantine.close(60)
    assert heard == Counter({word: times for word, times in quarantine.outcomes.items() if times})
    assert sum(heard.values()) == 400
    archive = open_archive(str(tmp_path))
    assert sum(entry.count for entry in archive.index.entries()) == heard["kept"]
    assert archive.repair() == 0


def test_an_offer_after_the_end_is_dropped(make: MakeKeeper) -> None:
    quarantine = make()
    quarantine.close(60)
    assert not quarantine.offer(png(0), record())
    assert quarantine.outcomes["dropped"] == 1


def test_closing_does_not_wait_for_a_disk_that_hangs(make: MakeKeeper, disk: Disk) -> None:
    quarantine = make()
    disk.free.clear()
    quarantine.offer(png(0), record())
    disk.busy.wait(60)
    start = monotonic()
    quarantine.close(0.1)
    assert monotonic() - start < 5
    disk.free.set()

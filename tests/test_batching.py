"""The batcher, with a worker that stops before every batch until the test lets it go on."""

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from queue import SimpleQueue
from time import monotonic, sleep

import pytest

from oodgate import batching as module
from oodgate import waiting
from oodgate.answers import Answer, Kept, keep
from oodgate.batching import Batcher, BatchLimits
from oodgate.errors import (
    DeadlinePassed,
    DeadlineUnreachable,
    Draining,
    InferenceFailed,
    NotReady,
    QueueFull,
    RequestError,
)

PATIENCE_S = 60.0
"""A wait this long is a failure; nothing here is meant to take time."""

Doubled = Future[Answer[int]]
Batching = Batcher[int, int]
Start = Callable[..., Batching]


def never() -> float:
    """A deadline that no test lives to see."""
    return monotonic() + 1e6


class HeldWork:
    """Doubles numbers, batch by batch, each when `release` allows it."""

    def __init__(self) -> None:
        self._entered: SimpleQueue[list[int]] = SimpleQueue()
        self._released = threading.Semaphore(0)

    def __call__(self, items: Sequence[int]) -> list[int]:
        self._entered.put(list(items))
        assert self._released.acquire(timeout=PATIENCE_S)
        return [2 * item for item in items]

    def wait_for_batch(self) -> list[int]:
        """The batch that the worker holds next."""
        return self._entered.get(timeout=PATIENCE_S)

    def release(self, batches: int = 1) -> None:
        """Let the worker finish this many batches."""
        self._released.release(batches)

    def entered_none(self) -> bool:
        """Whether every batch that the worker began has been seen."""
        return self._entered.empty()


def keep_now(answers: Sequence[Kept[int]], after_s: float) -> None:
    keep(answers)


@pytest.fixture
def work() -> Iterator[HeldWork]:
    work = HeldWork()
    yield work
    work.release(10_000)


@pytest.fixture
def start(work: HeldWork) -> Iterator[Start]:
    """Start batchers; they end with the test."""
    started: list[Batching] = []

    def start(process: Callable[[Sequence[int]], Sequence[int | RequestError]] = work, **options: object) -> Batching:
        hooks = {name: options.pop(name) for name in list(options) if name.startswith("on_") or name == "soon"}
        told = options.pop("keep", keep_now)
        batcher = Batching(process, BatchLimits(**options), told, **hooks)  # type: ignore[arg-type]
        batcher.start()
        started.append(batcher)
        return batcher

    yield start
    work.release(10_000)
    for batcher in started:
        batcher.drain()
        assert batcher.join(PATIENCE_S)


def doubled(items: Sequence[int]) -> list[int]:
    return [2 * item for item in items]


def submit(batcher: Batching, item: int, deadline: float, lane: str = "") -> Doubled:
    """Queue an item; its promise is a future that any thread can wait for."""
    future: Doubled = Future()
    batcher.submit(item, future, deadline, lane)
    return future


def answer_of(future: Doubled) -> int:
    return future.result(PATIENCE_S).result


def error_of(future: Doubled) -> BaseException | None:
    return future.exception(PATIENCE_S)


def busy(batcher: Batching, work: HeldWork) -> Doubled:
    """Make the worker hold a batch of the number 0."""
    future = submit(batcher, 0, never())
    assert work.wait_for_batch() == [0]
    return future


def submit_all(batcher: Batching, items: Sequence[int]) -> list[Doubled]:
    return [submit(batcher, item, never()) for item in items]


def test_what_is_submitted_before_the_workers_are_woken_is_one_batch(start: Start, work: HeldWork) -> None:
    steps: list[Callable[[], None]] = []
    batcher = start(soon=steps.append)
    eventually_idle(batcher)
    answers = submit_all(batcher, [1, 2, 3])
    (wake,) = steps
    wake()
    assert work.wait_for_batch() == [1, 2, 3]
    work.release()
    assert [answer_of(answer) for answer in answers] == [2, 4, 6]
    submit(batcher, 4, never())
    assert len(steps) == 2


@pytest.mark.parametrize("brief_s, taken", [(PATIENCE_S, 4), (0.0, 2)], ids=["brief work", "long work"])
def test_free_workers_share_what_is_long_and_one_does_what_is_brief(
    start: Start, work: HeldWork, monkeypatch: pytest.MonkeyPatch, brief_s: float, taken: int
) -> None:
    monkeypatch.setattr(waiting, "_BRIEF_S", brief_s)
    steps: list[Callable[[], None]] = []
    batcher = start(workers=2, soon=steps.append)
    work.release(10)
    first = submit(batcher, 0, never())
    steps.pop()()
    assert (answer_of(first), work.wait_for_batch()) == (0, [0])
    eventually_idle(batcher, workers=2)
    answers = submit_all(batcher, [1, 2, 3, 4])
    steps.pop()()
    assert [answer_of(answer) for answer in answers] == [2, 4, 6, 8]
    assert len(work.wait_for_batch()) == taken


def test_an_idle_worker_takes_every_item_at_once(start: Start) -> None:
    sizes: list[int] = []

    def double(items: Sequence[int]) -> list[int]:
        sizes.append(len(items))
        return doubled(items)

    batcher = start(double)
    assert [answer_of(submit(batcher, item, never())) for item in range(5)] == [0, 2, 4, 6, 8]
    assert sizes == [1] * 5


def test_arrivals_gather_while_the_worker_is_busy(start: Start, work: HeldWork) -> None:
    batcher = start()
    busy(batcher, work)
    futures = submit_all(batcher, [1, 2, 3])
    assert batcher.depth == 3
    work.release(2)
    assert work.wait_for_batch() == [1, 2, 3]
    assert [answer_of(future) for future in futures] == [2, 4, 6]
    assert batcher.depth == 0


def test_batches_hold_max_batch_items_in_order_of_arrival(start: Start, work: HeldWork) -> None:
    batcher = start(max_batch=4)
    busy(batcher, work)
    futures = submit_all(batcher, range(1, 11))
    work.release(4)
    assert [work.wait_for_batch() for _ in range(3)] == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10]]
    assert [answer_of(future) for future in futures] == [2 * item for item in range(1, 11)]


def test_an_answer_tells_how_long_its_item_waited(start: Start) -> None:
    answer = submit(start(doubled), 1, never()).result(PATIENCE_S)
    assert answer.queue_ms >= 0


def test_a_full_queue_refuses_and_takes_again_when_it_has_a_place(start: Start, work: HeldWork) -> None:
    batcher = start(max_queue=2, max_batch=1)
    busy(batcher, work)
    submit_all(batcher, [1, 2])
    with pytest.raises(QueueFull, match="2 images are waiting already; try again later"):
        submit(batcher, 3, never())
    work.release()
    assert work.wait_for_batch() == [1]
    late = submit(batcher, 4, never())
    work.release(3)
    assert answer_of(late) == 8


def test_withdrawn_items_are_never_processed(start: Start, work: HeldWork) -> None:
    batcher = start()
    busy(batcher, work)
    futures = submit_all(batcher, [1, 2, 3])
    assert batcher.withdraw(futures[1])
    assert not batcher.withdraw(futures[1])
    work.release(2)
    assert work.wait_for_batch() == [1, 3]
    assert [answer_of(futures[0]), answer_of(futures[2])] == [2, 6]
    assert not futures[1].done()


def test_an_item_that_is_being_processed_cannot_be_withdrawn(start: Start, work: HeldWork) -> None:
    batcher = start()
    held = busy(batcher, work)
    assert not batcher.withdraw(held)
    work.release()
    assert answer_of(held) == 0


def test_a_queue_of_withdrawn_items_only_makes_no_batch(start: Start, work: HeldWork) -> None:
    batcher = start()
    busy(batcher, work)
    futures = submit_all(batcher, [1, 2])
    assert all(batcher.withdraw(future) for future in futures)
    assert batcher.depth == 0
    work.release(2)
    after = submit(batcher, 3, never())
    assert work.wait_for_batch() == [3]
    assert answer_of(after) == 6


def test_expired_items_hear_that_their_deadline_passed_and_are_never_processed(start: Start, work: HeldWork) -> None:
    batcher = start()
    busy(batcher, work)
    expired, waiting = submit(batcher, 1, monotonic() - 1), submit(batcher, 2, never())
    work.release(2)
    assert work.wait_for_batch() == [2]
    assert isinstance(error_of(expired), DeadlinePassed)
    assert answer_of(waiting) == 4


def test_dropped_items_leave_their_places_in_the_batch_to_others(start: Start, work: HeldWork) -> None:
    batcher = start(max_batch=2)
    busy(batcher, work)
    submit(batcher, 1, monotonic() - 1)
    batcher.withdraw(submit(batcher, 2, never()))
    submit_all(batcher, [3, 4, 5])
    work.release(3)
    assert [work.wait_for_batch(), work.wait_for_batch()] == [[3, 4], [5]]


def test_a_failing_batch_answers_all_its_waiters_and_the_worker_lives_on(start: Start, work: HeldWork) -> None:
    failures: list[Exception] = []

    def fail_on_ones(items: Sequence[int]) -> list[int]:
        answers = work(items)
        if 1 in items:
            raise ValueError("no ones")
        return answers

    batcher = start(fail_on_ones, on_failure=failures.append)
    busy(batcher, work)
    futures = submit_all(batcher, [1, 2, 3])
    work.release(3)
    assert all(isinstance(error_of(future), InferenceFailed) for future in futures)
    assert [str(error) for error in failures] == ["no ones"]
    assert answer_of(submit(batcher, 4, never())) == 8
    assert batcher.alive


def test_the_reason_of_a_failing_batch_is_not_told_to_clients(start: Start) -> None:
    def fail(items: Sequence[int]) -> list[int]:
        raise ValueError("a secret")

    assert "secret" not in str(error_of(submit(start(fail), 1, never())))


def test_an_error_in_place_of_a_result_goes_to_its_item_alone(start: Start, work: HeldWork) -> None:
    refusal = InferenceFailed("not a number")

    def refuse_twos(items: Sequence[int]) -> list[int | RequestError]:
        return [refusal if item == 2 else answer for item, answer in zip(items, work(items), strict=True)]

    batcher = start(refuse_twos)
    busy(batcher, work)
    futures = submit_all(batcher, [1, 2, 3])
    work.release(2)
    assert error_of(futures[1]) is refusal
    assert [answer_of(futures[0]), answer_of(futures[2])] == [2, 6]


@pytest.mark.parametrize("results", [[], [1, 2], None])
def test_a_wrong_number_of_results_fails_the_batch(results: list[int] | None, start: Start) -> None:
    failures: list[Exception] = []
    batcher = start(lambda items: results, on_failure=failures.append)
    assert isinstance(error_of(submit(batcher, 1, never())), InferenceFailed)
    assert isinstance(error_of(submit(batcher, 1, never())), InferenceFailed)
    assert len(failures) == 2
    assert batcher.alive


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, BaseException])
def test_what_ends_the_worker_fails_every_item_and_readiness(
    kind: type[BaseException], start: Start, work: HeldWork
) -> None:
    deaths: list[BaseException] = []
    end = kind("the device is gone")

    def die(items: Sequence[int]) -> list[int]:
        work(items)
        raise end

    batcher = start(die, on_death=deaths.append)
    held = busy(batcher, work)
    queued = submit_all(batcher, [1, 2])
    withdrawn = submit(batcher, 3, never())
    assert batcher.withdraw(withdrawn)
    assert batcher.alive
    work.release()
    assert batcher.join(PATIENCE_S)
    assert all(isinstance(error_of(future), NotReady) for future in [held, *queued])
    assert not withdrawn.done()
    assert deaths == [end]
    assert not batcher.alive
    assert batcher.depth == 0
    assert work.entered_none()
    with pytest.raises(NotReady, match="the worker is not running"):
        submit(batcher, 4, never())


def test_a_failing_preparation_of_a_batch_fails_the_batch_alone(start: Start) -> None:
    failures: list[Exception] = []
    troubles = iter([1])

    def prepare(items: int, alone: bool) -> None:
        if next(troubles, None):
            raise ValueError("no such threads")

    batcher = start(doubled, on_share=prepare, on_failure=failures.append)
    assert isinstance(error_of(submit(batcher, 1, never())), InferenceFailed)
    assert [str(error) for error in failures] == ["no such threads"]
    assert answer_of(submit(batcher, 2, never())) == 4


def test_a_failing_report_of_a_failure_leaves_nobody_waiting(start: Start) -> None:
    deaths: list[BaseException] = []

    def fail(items: Sequence[int]) -> list[int]:
        raise ValueError

    def fail_again(error: Exception) -> None:
        raise OSError("the log is full")

    batcher = start(fail, on_failure=fail_again, on_death=deaths.append)
    assert isinstance(error_of(submit(batcher, 1, never())), InferenceFailed)
    assert batcher.join(PATIENCE_S)
    assert [str(error) for error in deaths] == ["the log is full"]
    assert not batcher.alive


@pytest.mark.parametrize("pause_s, first", [(1e-9, 1e-9), (PATIENCE_S, 0)], ids=["long batches", "short batches"])
def test_answers_wait_for_the_next_forward_where_more_waits_and_batches_are_long(
    start: Start, work: HeldWork, monkeypatch: pytest.MonkeyPatch, pause_s: float, first: float
) -> None:
    monkeypatch.setattr(module, "_PREPARATION_S", pause_s)
    pauses: list[float] = []

    def told(answers: Sequence[Kept[int]], after_s: float) -> None:
        pauses.append(after_s)
        keep(answers)

    batcher = start(max_batch=1, keep=told)
    held = busy(batcher, work)
    last = submit_all(batcher, [1])
    work.release(2)
    assert [one.result(PATIENCE_S).result for one in (held, *last)] == [0, 2]
    assert pauses == [first, 0]


def test_nothing_is_taken_before_the_start() -> None:
    batcher = Batching(doubled, BatchLimits(), keep_now)
    assert not batcher.alive
    with pytest.raises(NotReady):
        submit(batcher, 1, never())


def test_draining_answers_what_is_queued_and_takes_no_more(start: Start, work: HeldWork) -> None:
    batcher = start(max_batch=2)
    held = busy(batcher, work)
    queued = submit_all(batcher, [1, 2, 3])
    batcher.drain()
    assert batcher.alive
    assert not batcher.join(0)
    with pytest.raises(Draining, match="send the request to another instance"):
        submit(batcher, 4, never())
    work.release(3)
    assert [answer_of(future) for future in [held, *queued]] == [0, 2, 4, 6]
    assert batcher.join(PATIENCE_S)
    assert not batcher.alive


def test_draining_ends_an_idle_worker(start: Start) -> None:
    deaths: list[BaseException] = []
    batcher = start(doubled, on_death=deaths.append)
    batcher.drain()
    assert batcher.join(PATIENCE_S)
    with pytest.raises(Draining):
        submit(batcher, 1, never())
    assert deaths == []


def test_draining_ends_a_worker_whose_queue_holds_withdrawn_items_only(start: Start, work: HeldWork) -> None:
    batcher = start()
    busy(batcher, work)
    assert batcher.withdraw(submit(batcher, 1, never()))
    batcher.drain()
    work.release()
    assert batcher.join(PATIENCE_S)
    assert work.entered_none()


def test_a_longest_wait_lets_a_batch_fill(start: Start, work: HeldWork) -> None:
    batcher = start(max_batch=3, max_wait_s=PATIENCE_S)
    futures = submit_all(batcher, [1, 2, 3])
    assert work.wait_for_batch() == [1, 2, 3]
    work.release()
    assert [answer_of(future) for future in futures] == [2, 4, 6]


def test_a_batch_that_does_not_fill_goes_after_the_longest_wait(start: Start) -> None:
    assert answer_of(submit(start(doubled, max_batch=3, max_wait_s=1e-3), 1, never())) == 2


def test_a_batch_that_is_full_is_not_shared_with_a_worker_that_would_wait_again(start: Start) -> None:
    sizes: list[int] = []

    def double(items: Sequence[int]) -> list[int]:
        sizes.append(len(items))
        return doubled(items)

    batcher = start(double, max_batch=8, max_wait_s=10 * PATIENCE_S, workers=2)
    for _ in range(3):
        eventually_idle(batcher, 2)
        assert [answer_of(future) for future in submit_all(batcher, range(8))] == doubled(range(8))
    assert sizes == [8, 8, 8]


def test_nobody_waits_for_a_batch_to_fill_until_it_is_too_late_for_him(start: Start) -> None:
    batcher = start(doubled, max_batch=3, max_wait_s=10 * PATIENCE_S)
    late = submit(batcher, 1, never())
    assert answer_of(submit(batcher, 2, monotonic() + 0.2)) == 4
    assert answer_of(late) == 2


def test_draining_does_not_wait_for_a_batch_to_fill(start: Start, work: HeldWork) -> None:
    batcher = start(max_batch=3, max_wait_s=10 * PATIENCE_S)
    futures = submit_all(batcher, [1, 2])
    batcher.drain()
    assert work.wait_for_batch() == [1, 2]
    work.release()
    assert [answer_of(future) for future in futures] == [2, 4]


def test_every_one_of_many_threads_gets_its_own_answer(start: Start) -> None:
    threads, items_each = 16, 150
    sizes: list[int] = []
    processed: list[int] = []
    failed_threads: list[BaseException] = []

    def double(items: Sequence[int]) -> list[int]:
        processed.extend(items)
        sizes.append(len(items))
        return doubled(items)

    batcher = start(double, max_batch=8, max_queue=10)
    withdrawn: set[int] = set()
    together = threading.Barrier(threads)

    def ask(first: int) -> None:
        chance = random.Random(first)
        try:
            together.wait(PATIENCE_S)
            for item in range(first, first + items_each):
                while True:
                    try:
                        future = submit(batcher, item, never())
                        break
                    except QueueFull:
                        continue
                if chance.random() < 0.2 and batcher.withdraw(future):
                    withdrawn.add(item)
                else:
                    assert answer_of(future) == 2 * item
        except BaseException as error:
            failed_threads.append(error)

    askers = [threading.Thread(target=ask, args=(1000 * number,)) for number in range(threads)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert failed_threads == []
    asked = {1000 * number + item for number in range(threads) for item in range(items_each)}
    assert sorted(processed) == sorted(asked - withdrawn)
    assert sum(sizes) == len(processed)
    assert 1 <= min(sizes) <= max(sizes) <= 8


def test_items_submitted_while_the_batcher_drains_are_answered_or_refused(start: Start) -> None:
    batcher = start(doubled)
    outcomes: list[bool] = []
    refused: list[int] = []
    together = threading.Barrier(9)

    def ask(item: int) -> None:
        together.wait(PATIENCE_S)
        with suppress(Draining):
            while True:
                future = submit(batcher, item, never())
                outcomes.append(answer_of(future) == 2 * item)
        refused.append(item)

    askers = [threading.Thread(target=ask, args=(item,)) for item in range(8)]
    for asker in askers:
        asker.start()
    together.wait(PATIENCE_S)
    batcher.drain()
    for asker in askers:
        asker.join()
    assert all(outcomes)
    assert sorted(refused) == list(range(8))


def test_an_item_that_cannot_be_answered_in_time_is_refused_at_once(start: Start, work: HeldWork) -> None:
    batcher = start(max_batch=1)
    first = busy(batcher, work)
    sleep(0.05)
    work.release()
    answer_of(first)  # and the batch took 50 ms at least
    busy(batcher, work)
    waiting = submit(batcher, 1, never())
    with pytest.raises(DeadlineUnreachable, match="later than the request can wait"):
        submit(batcher, 2, monotonic() + 0.01)
    with pytest.raises(DeadlineUnreachable) as refusal:
        batcher.check(monotonic() + 0.01)
    assert refusal.value.busy_s >= 0.05  # for the one that waits
    batcher.check(never())
    work.release(2)
    assert answer_of(waiting) == 2


def test_an_idle_worker_tries_what_the_pace_would_refuse(start: Start, work: HeldWork) -> None:
    batcher = start(max_batch=1)
    first = busy(batcher, work)
    sleep(0.2)
    work.release()
    answer_of(first)
    work.release()
    eventually_idle(batcher)
    assert answer_of(submit(batcher, 1, monotonic() + 0.15)) == 2


def eventually_idle(batcher: Batching, workers: int = 1) -> None:
    """Wait until so many workers wait for work."""
    until = monotonic() + PATIENCE_S
    while batcher._idle < workers:
        assert monotonic() < until
        sleep(0.001)


def test_lanes_take_turns(start: Start, work: HeldWork) -> None:
    batcher = start(max_batch=2)
    busy(batcher, work)
    for item in (1, 2, 3):
        submit(batcher, item, never(), "many")
    submit(batcher, 10, never(), "one")
    work.release(3)
    assert [work.wait_for_batch() for _ in range(2)] == [[1, 10], [2, 3]]


def test_a_full_queue_takes_a_place_from_the_longest_lane(start: Start, work: HeldWork) -> None:
    batcher = start(max_batch=1, max_queue=3)
    busy(batcher, work)
    many = [submit(batcher, item, never(), "many") for item in (1, 2, 3)]
    one = submit(batcher, 10, never(), "one")
    assert isinstance(error_of(many[2]), QueueFull)
    with pytest.raises(QueueFull):
        submit(batcher, 4, never(), "many")
    assert batcher.depth == 3
    work.release(4)
    assert [answer_of(future) for future in (*many[:2], one)] == [2, 4, 20]


def test_what_hangs_is_given_up_and_everybody_is_answered(start: Start, work: HeldWork) -> None:
    batcher = start(max_batch=1)
    assert batcher.longest_s == 0
    held = busy(batcher, work)
    waiting = submit(batcher, 1, never())
    sleep(0.02)
    assert batcher.longest_s >= 0.02
    batcher.give_up()
    assert isinstance(error_of(held), NotReady)
    assert isinstance(error_of(waiting), NotReady)
    assert not batcher.alive
    with pytest.raises(NotReady):
        submit(batcher, 2, never())
    work.release()  # the worker comes back after all, and finds its items answered
    assert batcher.join(PATIENCE_S)

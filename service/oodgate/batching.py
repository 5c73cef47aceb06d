"""A micro-batcher: many callers, few worker threads, batches.

It knows nothing of what it batches. An idle worker takes its share of what is there at once; while all work, arrivals
gather, and what would come too late is refused. Every accepted item is answered exactly once: with its result, with its
error, or with the workers' end.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from time import monotonic
from typing import Generic, TypeVar

from oodgate.answers import Answer, Kept, Promise
from oodgate.errors import DeadlinePassed, Draining, InferenceFailed, NotReady, RequestError
from oodgate.waiting import Entry, WaitingRoom

Item = TypeVar("Item")
Result = TypeVar("Result")

# Longer than a worker needs Python's lock to get a batch of small images ready. Then comes the forward, which does not.
_PREPARATION_S = 0.003
_MOST_ADDED = 0.1  # to the time of a batch


@dataclass(frozen=True)
class BatchLimits:
    """Sizes and times of the batcher."""

    max_batch: int = 16
    max_wait_s: float = 0.0  # how long an item waits at most for a batch to fill while a worker is idle
    max_queue: int = 512
    workers: int = 1


class Batcher(Generic[Item, Result]):
    """Bounded queue in front of worker threads that share the device."""

    def __init__(
        self,
        process: Callable[[Sequence[Item]], Sequence[Result | RequestError]],
        limits: BatchLimits,
        keep: Callable[[Sequence[Kept[Result]], float], None],
        on_start: Callable[[], None] = lambda: None,
        on_share: Callable[[int, bool], None] = lambda items, alone: None,
        on_failure: Callable[[Exception], None] = lambda error: None,
        on_death: Callable[[BaseException], None] = lambda error: None,
        soon: Callable[[Callable[[], None]], object] = lambda step: step(),
    ) -> None:
        """`process` answers every item of a batch, in order; an error in place of a result goes to that item alone.

        Several workers call it at the same time, and `keep` with what it answered and the seconds after which that is
        to be told. `on_start` runs in every worker before its first batch, `on_share` in the worker before `process`
        and hears how many items its batch has, and whether it is all that there is to do, `on_failure` what `process`
        raised, `on_death` what ended a worker. `soon` calls what wakes the workers: later, where more may be submitted
        before, since threads that wake for each item hinder who submits.
        """
        self._process, self._keep = process, keep
        self._limits = limits
        self._on_start, self._on_share = on_start, on_share
        self._on_failure, self._on_death, self._soon = on_failure, on_death, soon
        self._waking = False
        self._queue = WaitingRoom[Item, Result](limits.max_queue, limits.workers)
        self._changed = threading.Condition()
        self._started = self._draining = self._ended = False
        self._idle = 0
        self._at_work: dict[str, tuple[float, list[Entry[Item, Result]]]] = {}  # by worker: since when, on what
        self._workers = [
            threading.Thread(target=self._run, name=f"oodgate-worker-{number}", daemon=True)
            for number in range(limits.workers)
        ]

    def start(self) -> None:
        """Start the workers."""
        self._started = True
        for worker in self._workers:
            worker.start()

    def submit(self, item: Item, promise: Promise[Answer[Result]], deadline: float, lane: str = "") -> None:
        """Queue an item that has to be answered by `deadline` (monotonic seconds), in a lane that takes turns.

        Raises as `check` does; if it does not, the promise is kept once.
        """
        with self._changed:
            self._check(deadline, lane)
            displaced = self._queue.push(Entry(item, promise, deadline, lane))
            wakes, self._waking = not self._waking, True
        if wakes:
            self._soon(self._wake)
        if displaced:
            self._keep([(displaced.promise, self._queue.full())], 0)

    def withdraw(self, promise: Promise[Answer[Result]]) -> bool:
        """Free the place of an item whose answer nobody waits for any more; returns whether it still had one."""
        with self._changed:
            waiting = len(self._queue)
            self._queue.discard(promise)
            return len(self._queue) < waiting

    def check(self, deadline: float, lane: str = "") -> None:
        """Raise what an item would be refused with now: Draining, NotReady, QueueFull or DeadlineUnreachable."""
        with self._changed:
            self._check(deadline, lane)

    def drain(self) -> None:
        """Take no new work; the workers answer what is queued and end."""
        with self._changed:
            self._draining = True
            self._changed.notify_all()

    def join(self, timeout_s: float) -> bool:
        """Wait for the workers to end; returns whether all did."""
        end = monotonic() + timeout_s
        for worker in self._workers:
            worker.join(max(0, end - monotonic()))
        return not any(worker.is_alive() for worker in self._workers)

    def give_up(self) -> None:
        """Answer everybody, those too whose batch a worker has been at for ever; nothing is taken from now on."""
        error = NotReady("the forward hangs and the service ends; send the request to another instance")
        with self._changed:
            at_work = [entry for _, batch in tuple(self._at_work.values()) for entry in batch]
        self._refuse(at_work, error)
        self._end()

    @property
    def longest_s(self) -> float:
        """Seconds that the slowest worker has been at its batch."""
        now = monotonic()
        return max((now - since for since, _ in tuple(self._at_work.values())), default=0.0)

    @property
    def alive(self) -> bool:
        """Whether every worker runs."""
        return self._started and not self._ended

    @property
    def depth(self) -> int:
        """Items waiting."""
        return len(self._queue)

    def _check(self, deadline: float, lane: str) -> None:
        if self._draining:
            raise Draining("the service is stopping; send the request to another instance")
        if not self.alive:
            raise NotReady("the worker is not running; send the request to another instance")
        self._queue.check(deadline, lane, idle=bool(self._idle))

    def _wake(self) -> None:
        with self._changed:
            self._waking = False
            self._changed.notify(min(len(self._queue), self._hands()))

    def _run(self) -> None:
        try:
            self._on_start()
            while batch := self._next_batch():
                self._answer(batch)
        except BaseException as error:  # whatever ends a worker, nobody may wait for it in vain
            self._on_death(error)
        finally:
            self._end()

    def _next_batch(self) -> list[Entry[Item, Result]]:
        """Block until there is work and return it; an empty list means that the worker is done."""
        with self._changed:
            self._idle += 1
            try:
                while True:
                    self._changed.wait_for(lambda: self._queue or self._draining or self._ended)
                    self._wait_for_more()
                    batch = self._take()
                    if batch or self._draining or self._ended:
                        return batch
            finally:
                self._idle -= 1

    def _wait_for_more(self) -> None:
        while self._limits.max_wait_s and 0 < len(self._queue) < self._limits.max_batch:
            left_s = self._queue.patience_s(self._limits.max_wait_s)
            if left_s <= 0 or self._draining or self._ended:
                return
            self._changed.wait(left_s)

    def _hands(self) -> int:
        """How many of the free workers share what is there: all, as two small batches at once are done sooner."""
        return 1 if self._queue.brief else self._idle

    def _take(self) -> list[Entry[Item, Result]]:
        share = self._limits.max_batch
        if not self._limits.max_wait_s:
            share = min(share, ceil(len(self._queue) / self._hands()))
        batch: list[Entry[Item, Result]] = []
        while self._queue and len(batch) < share:
            entry = self._queue.pop()
            if entry.deadline > monotonic():
                batch.append(entry)
            else:
                self._keep([(entry.promise, DeadlinePassed("the deadline passed while the image was waiting"))], 0)
        return batch

    def _answer(self, batch: list[Entry[Item, Result]]) -> None:
        taken, name = monotonic(), threading.current_thread().name
        self._at_work[name] = (taken, batch)
        try:
            results = self._results(batch)
        except BaseException:
            self._refuse(batch, NotReady("the worker ended; send the request to another instance"))
            raise
        finally:
            del self._at_work[name]
        took_s = monotonic() - taken
        self._queue.learn(len(batch), took_s)
        answers: list[Kept[Result]] = []
        for entry, result in zip(batch, results, strict=False):  # there are none where all have their error already
            kept = result if isinstance(result, RequestError) else Answer(result, 1000 * (taken - entry.arrival))
            answers.append((entry.promise, kept))
        self._keep(answers, self._pause_s(took_s))

    def _pause_s(self, took_s: float) -> float:
        """How long answers of a batch wait, so that who writes them leaves the worker alone until its next forward."""
        return _PREPARATION_S if self._queue and took_s * _MOST_ADDED >= _PREPARATION_S else 0

    def _results(self, batch: list[Entry[Item, Result]]) -> Sequence[Result | RequestError]:
        try:
            self._on_share(len(batch), self._idle == len(self._workers) - 1 and not self._queue)
            results = list(self._process([entry.item for entry in batch]))
            if len(results) != len(batch):
                raise RuntimeError(f"{len(results)} results for a batch of {len(batch)}")
            return results
        except Exception as error:
            self._refuse(batch, InferenceFailed("the batch of this image failed; try again"))
            self._on_failure(error)
            return []

    def _end(self) -> None:
        """Where one worker ends the others end too: a service at half its strength would hide the fault."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
            waiting = [self._queue.pop() for _ in range(len(self._queue))]
        self._refuse(waiting, NotReady("the worker ended; send the request to another instance"))

    def _refuse(self, entries: Sequence[Entry[Item, Result]], error: RequestError) -> None:
        self._keep([(entry.promise, error) for entry in entries], 0)

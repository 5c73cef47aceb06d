"""A micro-batcher: many callers, few worker threads, batches.

It knows nothing of what it batches. An idle worker takes its share of what is there at once; while all work, arrivals
gather. Every accepted item is answered exactly once: with its result, with its error, or with the workers' end.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from math import ceil
from time import monotonic
from typing import Generic, TypeVar

from oodgate.errors import DeadlinePassed, Draining, InferenceFailed, NotReady, QueueFull, RequestError

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class BatchLimits:
    """Sizes and times of the batcher."""

    max_batch: int = 16
    max_wait_s: float = 0.0  # how long an idle worker waits for a batch to fill
    max_queue: int = 256
    workers: int = 1


@dataclass(frozen=True, slots=True)
class Answer(Generic[Result]):
    """A result, and how long its item waited for a worker."""

    result: Result
    queue_ms: float


@dataclass(slots=True, eq=False)
class _Entry(Generic[Item, Result]):
    item: Item
    deadline: float  # monotonic seconds
    arrival: float = field(default_factory=monotonic)
    future: Future[Answer[Result]] = field(default_factory=Future)


class Batcher(Generic[Item, Result]):
    """Bounded queue in front of worker threads that share the device."""

    def __init__(
        self,
        process: Callable[[Sequence[Item]], Sequence[Result | RequestError]],
        limits: BatchLimits,
        on_start: Callable[[], None] = lambda: None,
        on_share: Callable[[bool], None] = lambda alone: None,
        on_failure: Callable[[Exception], None] = lambda error: None,
        on_death: Callable[[BaseException], None] = lambda error: None,
    ) -> None:
        """`process` answers every item of a batch, in order; an error in place of a result goes to that item alone.

        Several workers call it at the same time. `on_start` runs in every worker before its first batch, `on_share` in
        the worker before `process` and hears whether its batch is all that there is to do, `on_failure` what `process`
        raised, `on_death` what ended a worker.
        """
        self._process = process
        self._limits = limits
        self._on_start, self._on_share = on_start, on_share
        self._on_failure, self._on_death = on_failure, on_death
        self._queue: deque[_Entry[Item, Result]] = deque()
        self._changed = threading.Condition()
        self._draining = False
        self._ended = False
        self._idle = 0
        self._workers = [
            threading.Thread(target=self._run, name=f"oodgate-worker-{number}", daemon=True)
            for number in range(limits.workers)
        ]

    def start(self) -> None:
        """Start the workers."""
        for worker in self._workers:
            worker.start()

    def submit(self, item: Item, deadline: float) -> Future[Answer[Result]]:
        """Queue an item that has to be answered by `deadline` (monotonic seconds).

        Cancelling the future frees the item's place if no batch has taken it. Raises QueueFull, Draining or NotReady.
        """
        entry: _Entry[Item, Result] = _Entry(item, deadline)
        with self._changed:
            if self._draining:
                raise Draining("the service is stopping; send the request to another instance")
            if not self.alive:
                raise NotReady("the worker is not running; send the request to another instance")
            if len(self._queue) >= self._limits.max_queue:
                raise QueueFull(f"{self._limits.max_queue} images are waiting already; try again later")
            self._queue.append(entry)
            self._changed.notify()
        entry.future.add_done_callback(self._forget_cancelled)  # ties no entry to its own future
        return entry.future

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

    @property
    def alive(self) -> bool:
        """Whether every worker runs."""
        return not self._ended and all(worker.is_alive() for worker in self._workers)

    @property
    def depth(self) -> int:
        """Items waiting."""
        return len(self._queue)

    def _run(self) -> None:
        try:
            self._on_start()
            while batch := self._next_batch():
                self._answer(batch)
        except BaseException as error:  # whatever ends a worker, nobody may wait for it in vain
            self._on_death(error)
        finally:
            self._end()

    def _next_batch(self) -> list[_Entry[Item, Result]]:
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
        if self._limits.max_wait_s > 0 and not self._draining:
            full = self._limits.max_batch
            self._changed.wait_for(lambda: len(self._queue) >= full or self._draining, self._limits.max_wait_s)

    def _take(self) -> list[_Entry[Item, Result]]:
        # What arrives together is shared among the workers that are free: two small batches at once are done sooner.
        share = min(self._limits.max_batch, ceil(len(self._queue) / self._idle))
        batch: list[_Entry[Item, Result]] = []
        while self._queue and len(batch) < share:
            entry = self._queue.popleft()
            if not entry.future.set_running_or_notify_cancel():
                continue  # the client left
            if entry.deadline <= monotonic():
                entry.future.set_exception(DeadlinePassed("the deadline passed while the image was waiting"))
                continue
            batch.append(entry)
        return batch

    def _forget_cancelled(self, future: Future[Answer[Result]]) -> None:
        if future.cancelled():
            with self._changed:
                for entry in [entry for entry in self._queue if entry.future is future]:
                    self._queue.remove(entry)

    def _answer(self, batch: list[_Entry[Item, Result]]) -> None:
        taken = monotonic()
        try:
            self._on_share(self._idle == len(self._workers) - 1 and not self._queue)
            results = list(self._process([entry.item for entry in batch]))
            if len(results) != len(batch):
                raise RuntimeError(f"{len(results)} results for a batch of {len(batch)}")
        except Exception as error:
            try:
                self._on_failure(error)
            finally:
                for entry in batch:
                    entry.future.set_exception(InferenceFailed("the batch of this image failed; try again"))
            return
        except BaseException:
            for entry in batch:
                entry.future.set_exception(NotReady("the worker ended; send the request to another instance"))
            raise
        for entry, result in zip(batch, results, strict=True):
            if isinstance(result, RequestError):
                entry.future.set_exception(result)
            else:
                entry.future.set_result(Answer(result, 1000 * (taken - entry.arrival)))

    def _end(self) -> None:
        """Where one worker ends the others end too: a service at half its strength would hide the fault."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
            while self._queue:
                entry = self._queue.popleft()
                if entry.future.set_running_or_notify_cancel():
                    entry.future.set_exception(NotReady("the worker ended; send the request to another instance"))

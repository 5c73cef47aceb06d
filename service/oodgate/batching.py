"""A micro-batcher: many callers, one worker thread, batches.

It knows nothing of what it batches. An idle worker takes what is there at once; while it works, arrivals gather.
Every accepted item is answered exactly once: with its result, with its error, or with the worker's end.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
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


@dataclass(frozen=True, slots=True)
class Answer(Generic[Result]):
    """A result, and how long its item waited for the worker."""

    result: Result
    queue_ms: float


@dataclass(slots=True)
class _Entry(Generic[Item, Result]):
    item: Item
    deadline: float  # monotonic seconds
    arrival: float = field(default_factory=monotonic)
    future: Future[Answer[Result]] = field(default_factory=Future)


class Batcher(Generic[Item, Result]):
    """Bounded queue in front of one worker thread that owns the device."""

    def __init__(
        self,
        process: Callable[[Sequence[Item]], Sequence[Result | RequestError]],
        limits: BatchLimits,
        on_batch: Callable[[int], None] = lambda size: None,
        on_failure: Callable[[Exception], None] = lambda error: None,
        on_death: Callable[[BaseException], None] = lambda error: None,
    ) -> None:
        """`process` answers every item of a batch, in order; an error in place of a result goes to that item alone.

        `on_batch` hears the size of every batch, `on_failure` what `process` raised, `on_death` what ended the worker.
        """
        self._process = process
        self._limits = limits
        self._on_batch, self._on_failure, self._on_death = on_batch, on_failure, on_death
        self._queue: deque[_Entry[Item, Result]] = deque()
        self._changed = threading.Condition()
        self._draining = False
        self._ended = False
        self._worker = threading.Thread(target=self._run, name="oodgate-worker", daemon=True)

    def start(self) -> None:
        """Start the worker."""
        self._worker.start()

    def submit(self, item: Item, deadline: float) -> Future[Answer[Result]]:
        """Queue an item that has to be answered by `deadline` (monotonic seconds).

        Cancelling the future drops the item if no batch has taken it. Raises QueueFull, Draining or NotReady.
        """
        entry = _Entry[Item, Result](item, deadline)
        with self._changed:
            if self._draining:
                raise Draining("the service is stopping; send the request to another instance")
            if not self.alive:
                raise NotReady("the worker is not running; send the request to another instance")
            if len(self._queue) >= self._limits.max_queue:
                raise QueueFull(f"{self._limits.max_queue} images are waiting already; try again later")
            self._queue.append(entry)
            self._changed.notify()
        return entry.future

    def drain(self) -> None:
        """Take no new work; the worker answers what is queued and ends."""
        with self._changed:
            self._draining = True
            self._changed.notify()

    def join(self, timeout_s: float) -> bool:
        """Wait for the worker to end; returns whether it did."""
        self._worker.join(timeout_s)
        return not self._worker.is_alive()

    @property
    def alive(self) -> bool:
        """Whether the worker runs."""
        return self._worker.is_alive() and not self._ended

    @property
    def depth(self) -> int:
        """Items waiting."""
        return len(self._queue)

    def _run(self) -> None:
        try:
            while batch := self._next_batch():
                self._answer(batch)
        except BaseException as error:  # whatever ends the worker, nobody may wait for it in vain
            self._on_death(error)
        finally:
            self._fail_queued()

    def _next_batch(self) -> list[_Entry[Item, Result]]:
        """Block until there is work and return it; an empty list means that the worker is done."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._queue or self._draining)
                self._wait_for_more()
                batch = self._take()
                if batch or self._draining:
                    return batch

    def _wait_for_more(self) -> None:
        if self._limits.max_wait_s > 0 and not self._draining:
            full = self._limits.max_batch
            self._changed.wait_for(lambda: len(self._queue) >= full or self._draining, self._limits.max_wait_s)

    def _take(self) -> list[_Entry[Item, Result]]:
        batch: list[_Entry[Item, Result]] = []
        while self._queue and len(batch) < self._limits.max_batch:
            entry = self._queue.popleft()
            if not entry.future.set_running_or_notify_cancel():
                continue  # the client left
            if entry.deadline <= monotonic():
                entry.future.set_exception(DeadlinePassed("the deadline passed while the image was waiting"))
                continue
            batch.append(entry)
        return batch

    def _answer(self, batch: list[_Entry[Item, Result]]) -> None:
        taken = monotonic()
        try:
            self._on_batch(len(batch))
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

    def _fail_queued(self) -> None:
        with self._changed:
            self._ended = True
            while self._queue:
                entry = self._queue.popleft()
                if entry.future.set_running_or_notify_cancel():
                    entry.future.set_exception(NotReady("the worker ended; send the request to another instance"))

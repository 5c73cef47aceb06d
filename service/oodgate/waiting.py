"""What waits for a worker: so many at most, in lanes that take turns, and nothing that would be answered too late."""

from dataclasses import dataclass, field
from time import monotonic
from typing import Generic, TypeVar

from oodgate.answers import Answer, Promise
from oodgate.errors import DeadlineUnreachable, QueueFull, RequestError
from oodgate.lanes import Lanes
from oodgate.pace import Pace

Item = TypeVar("Item")
Result = TypeVar("Result")
Refusal = TypeVar("Refusal", bound=RequestError)

_BRIEF_S = 0.002  # threads that wake contend for Python's lock with who wakes them


@dataclass(slots=True, eq=False)
class Entry(Generic[Item, Result]):
    """An item, and the promise of its answer."""

    item: Item
    promise: Promise[Answer[Result]]
    deadline: float  # monotonic seconds
    lane: str
    arrival: float = field(default_factory=monotonic)


class WaitingRoom(Generic[Item, Result]):
    """Entries until a worker takes them. Not safe between threads."""

    def __init__(self, places: int, workers: int) -> None:
        self._places = places
        self._entries = Lanes[Entry[Item, Result]]()
        self._pace = Pace(workers)

    def __len__(self) -> int:
        return len(self._entries)

    def check(self, deadline: float, lane: str, idle: bool) -> None:
        """Raise QueueFull or DeadlineUnreachable where an entry would not be let in; `idle` where a worker is free."""
        if len(self._entries) >= self._places and not self._entries.longer_than(lane):
            raise self.full()
        if idle and not self._entries:
            return  # only what is tried can show that the pace has become better
        expected_s = self._pace.answer_s(self._entries.ahead_of(lane))
        if expected_s and monotonic() + expected_s > deadline:
            sentence = f"an answer is expected in {1000 * expected_s:.0f} ms, later than the request can wait"
            raise self._for_work(DeadlineUnreachable(f"{sentence}; try again later"))

    @property
    def brief(self) -> bool:
        """Whether what waits is done in less time than further workers are worth; not before the first batch."""
        return 0 < self._pace.busy_s(len(self._entries)) < _BRIEF_S

    def push(self, entry: Entry[Item, Result]) -> Entry[Item, Result] | None:
        """Let an entry in that `check` lets in; where no place is free, returns the one that loses its own for it."""
        displaced = None
        if len(self._entries) >= self._places and (longest := self._entries.longer_than(entry.lane)):
            displaced = self._entries.take_back(longest)
        self._entries.push(entry.lane, entry)
        return displaced

    def patience_s(self, most_s: float) -> float:
        """Seconds until one of the entries has waited so long, or for half of the time that it has."""
        ends = (one.arrival + min(most_s, (one.deadline - one.arrival) / 2) for one in self._entries)
        return min(ends) - monotonic()

    def pop(self) -> Entry[Item, Result]:
        """The next entry; raises StopIteration where none waits."""
        return self._entries.pop()

    def discard(self, promise: Promise[Answer[Result]]) -> None:
        """Remove the entry of a promise that nobody waits for any more."""
        self._entries.discard(lambda entry: entry.promise is promise)

    def learn(self, images: int, seconds: float) -> None:
        """Take in how long a worker took for a batch."""
        self._pace.learn(images, seconds)

    def full(self) -> QueueFull:
        """What is said where no place is free."""
        return self._for_work(QueueFull(f"{self._places} images are waiting already; try again later"))

    def _for_work(self, refusal: Refusal) -> Refusal:
        refusal.busy_s = self._pace.busy_s(len(self._entries))
        return refusal

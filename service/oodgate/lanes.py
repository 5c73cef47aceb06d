"""A queue whose lanes take turns: whoever brings much waits for himself, and whoever brings little is next."""

from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Lanes(Generic[Item]):
    """Waiting items by lane, first come first served within a lane. Not safe between threads."""

    def __init__(self) -> None:
        self._lanes: dict[str, deque[Item]] = {}  # in the order of their turns; none is empty
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Item]:
        return chain.from_iterable(self._lanes.values())

    def push(self, lane: str, item: Item) -> None:
        """Put an item at the end of its lane; a new lane waits for its turn behind the others."""
        self._lanes.setdefault(lane, deque()).append(item)
        self._length += 1

    def pop(self) -> Item:
        """The first item of the lane whose turn it is; raises StopIteration where nothing waits."""
        lane = next(iter(self._lanes))
        items = self._lanes.pop(lane)
        item = items.popleft()
        if items:
            self._lanes[lane] = items
        self._length -= 1
        return item

    def ahead_of(self, lane: str) -> int:
        """How many items leave before one that joins the lane now."""
        own = len(self._lanes.get(lane, ()))
        return sum(min(len(items), own + 1) if name != lane else own for name, items in self._lanes.items())

    def longer_than(self, lane: str) -> str | None:
        """The longest lane, if it is longer than this one would be with one more."""
        longest = max(self._lanes, key=lambda name: len(self._lanes[name]), default=lane)
        return longest if len(self._lanes.get(longest, ())) > len(self._lanes.get(lane, ())) + 1 else None

    def take_back(self, lane: str) -> Item:
        """Remove the last item of a lane of two or more; it gives its place up."""
        self._length -= 1
        return self._lanes[lane].pop()

    def discard(self, unwanted: Callable[[Item], bool]) -> None:
        """Remove what nobody waits for any more."""
        for lane, items in tuple(self._lanes.items()):
            kept = deque(item for item in items if not unwanted(item))
            self._length -= len(items) - len(kept)
            if kept:
                self._lanes[lane] = kept
            else:
                del self._lanes[lane]

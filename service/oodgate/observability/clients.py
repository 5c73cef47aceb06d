"""Which images of which client are counted, so that a noisy client does not speak for all."""

from collections import OrderedDict
from collections.abc import Callable
from time import monotonic


class ClientQuota:
    """A token bucket for each of the clients seen last: so many images a minute, as many at once.

    What is counted depends on who sends and when, never on what the image was decided to be: the counted flags keep
    their probabilities. Not safe between threads; its owner has a lock.
    """

    def __init__(self, per_minute: float, clients: int = 10_000, clock: Callable[[], float] = monotonic) -> None:
        """The client not seen for the longest time is forgotten beyond `clients`; `clock` is in seconds."""
        self._per_minute = per_minute
        self._clients = clients
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, and when there were so many

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, client: str) -> bool:
        """Whether one more image of this client is counted."""
        now = self._clock()
        tokens, then = self._buckets.pop(client, (self._per_minute, now))
        tokens = min(self._per_minute, tokens + (now - then) * self._per_minute / 60)
        counted = tokens >= 1
        self._buckets[client] = (tokens - counted, now)
        if len(self._buckets) > self._clients:
            self._buckets.popitem(last=False)
        return counted

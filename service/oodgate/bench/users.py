"""The users of a server under load, and the record of what they were answered."""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter, process_time

import numpy as np
from numpy.typing import NDArray

from oodgate.bench.connection import UNREACHABLE, Connection, connect

Seconds = NDArray[np.float64]

OnAnswer = Callable[["User", str], None]


@dataclass(frozen=True)
class Target:
    """A port of this machine and the requests to send to it in turn."""

    port: int
    requests: Sequence[bytes]


@dataclass(frozen=True)
class Load:
    """What became of the requests, good answers within `seconds` and errors until all were there.

    An open loop has the good answers to all of its arrivals.
    """

    seconds: float
    outcomes: dict[str, int]  # by status or by what went wrong
    completed: int  # 2xx that came within the time
    latencies: Seconds  # of all 2xx that count
    lateness: Seconds  # of sending, where a connection was free: the generator's own
    generator_cpu: float  # cores that the generator kept busy

    @property
    def requests_per_s(self) -> float:
        """2xx answers in a second."""
        return self.completed / self.seconds if self.seconds else 0.0

    @property
    def errors(self) -> dict[str, int]:
        """Outcomes other than 2xx."""
        return {outcome: number for outcome, number in self.outcomes.items() if not succeeded(outcome)}


def succeeded(outcome: str) -> bool:
    """Whether it is a 2xx."""
    return outcome.startswith("2")


def percentile_ms(seconds: Seconds, percent: float) -> float | None:
    """The least of the values that this share of them does not exceed, in milliseconds; None where there is none."""
    if not seconds.size:
        return None
    return 1000 * float(np.percentile(seconds, percent, method="inverted_cdf"))


@dataclass
class Record:
    """The answers since its beginning; those before it do not count, nor those to requests due while it settled."""

    outcomes: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    finished: list[float] = field(default_factory=list)
    lateness: list[float] = field(default_factory=list)
    sent: int = 0
    begun: bool = False
    end: float = math.inf
    counts_from: float = -math.inf

    def begin(self, duration_s: float = math.inf, settle_s: float = 0.0) -> float:
        """Start the clock after a while and return its time; good answers count for so long, errors until all came."""
        self.begun, self._began, self._cpu_start = True, perf_counter(), process_time()
        self._start = self._began + settle_s
        self.end = self._start + duration_s
        if settle_s:
            self.counts_from = self._start
        return self._start

    def add(self, outcome: str, due: float) -> None:
        """Take in an answer to the request that was due at this time."""
        now = perf_counter()
        if not self.begun or due < self.counts_from or (succeeded(outcome) and now > self.end):
            return
        self.outcomes[outcome] += 1
        if succeeded(outcome):
            self.latencies.append(now - due)
            self.finished.append(now)

    def sent_late(self, due: float, lateness_s: float) -> None:
        """Take in how late the generator was itself with the request that was due at this time."""
        if due >= self.counts_from:
            self.lateness.append(lateness_s)

    @property
    def elapsed(self) -> float:
        """Seconds from the beginning to the last good answer."""
        return self.finished[-1] - self._start if self.finished else 0.0

    def load(self, seconds: float) -> Load:
        """The whole of it; throughput counts up to `seconds`."""
        if not self.begun:
            self.begin()
        return Load(
            seconds=seconds,
            outcomes=dict(self.outcomes),
            completed=int((np.array(self.finished) <= self._start + seconds).sum()),
            latencies=np.array(self.latencies),
            lateness=np.array(self.lateness),
            generator_cpu=(process_time() - self._cpu_start) / max(perf_counter() - self._began, 1e-9),
        )


class User:
    """One connection, which is opened anew where it was closed, and one request at a time on it."""

    def __init__(self, target: Target, timeout_s: float, record: Record, on_answer: OnAnswer) -> None:
        """`on_answer` hears of every outcome once it is recorded, and whose it is."""
        self._target, self._timeout_s, self._record, self._on_answer = target, timeout_s, record, on_answer
        self._connection: Connection | None = None
        self._opening: asyncio.Task[None] | None = None
        self._due = 0.0

    async def connect(self) -> None:
        """Open the connection, if anybody accepts it."""
        self._connection = await connect(self._target.port, self._timeout_s)

    def ask(self, due: float) -> None:
        """Send the next request, whose latency counts from `due`."""
        self._due = due
        if self._connection and self._connection.open:
            self._send(self._connection)
        else:
            self._opening = asyncio.get_running_loop().create_task(self._open_and_send())

    def leave(self) -> None:
        """Close the connection."""
        if self._connection:
            self._connection.close()

    def _send(self, connection: Connection) -> None:
        request = self._target.requests[self._record.sent % len(self._target.requests)]
        self._record.sent += 1
        connection.send(request, self._take)

    async def _open_and_send(self) -> None:
        await self.connect()
        if self._connection:
            self._send(self._connection)
        else:
            self._record.sent += 1
            self._take(UNREACHABLE)

    def _take(self, outcome: str) -> None:
        self._record.add(outcome, self._due)
        self._on_answer(self, outcome)

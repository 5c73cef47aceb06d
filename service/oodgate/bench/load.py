"""Load on a server of this machine: a closed loop of clients, or arrivals at a rate that does not care for answers.

Both are bounded in time and in requests, and every request has its own timeout.
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import uvloop

from oodgate.bench.alarm import Alarm
from oodgate.bench.users import Load, Record, Seconds, Target, User, succeeded

_PAUSE_S = 0.05  # of a client after an error, so that refusals do not turn a closed loop into a flood


@dataclass(frozen=True)
class Bounds:
    """When to stop sending, and how long to wait for one answer."""

    duration_s: float
    max_requests: int = 1_000_000
    timeout_s: float = 30.0
    settle_s: float = 0.0  # so long nothing counts; in a closed loop longer, until every client was answered


def arrival_schedule(rate: float, bounds: Bounds, seed: int = 0) -> Seconds:
    """Times of a Poisson process with `rate` arrivals a second, ascending from 0 until the load ends; seeded."""
    random, seconds = np.random.default_rng(seed), bounds.settle_s + bounds.duration_s
    times = random.uniform(0, seconds, random.poisson(rate * seconds))
    return np.sort(times)[: bounds.max_requests]


def run_closed(target: Target, clients: int, bounds: Bounds) -> Load:
    """Each client sends its next request when it has its answer; answers that come within the duration count."""
    return uvloop.run(closed_loop(target, clients, bounds))


def run_open(target: Target, arrivals: Seconds, connections: int, bounds: Bounds) -> Load:
    """Send at the arrivals' times; latencies count from there, whether or not one of the connections was free."""
    return uvloop.run(open_loop(target, arrivals, connections, bounds))


async def closed_loop(target: Target, clients: int, bounds: Bounds) -> Load:
    """As `run_closed`, beside others on the same event loop."""
    return await ClosedLoop(target, clients, bounds).run()


async def open_loop(target: Target, arrivals: Seconds, connections: int, bounds: Bounds) -> Load:
    """As `run_open`, beside others on the same event loop."""
    return await OpenLoop(target, arrivals, connections, bounds).run()


class ClosedLoop:
    """Clients that ask again when they are answered."""

    def __init__(self, target: Target, clients: int, bounds: Bounds) -> None:
        self._bounds, self._record = bounds, Record()
        self._users = [User(target, bounds.timeout_s, self._record, self._go_on) for _ in range(clients)]
        self._turns = iter(range(bounds.max_requests))
        self._unanswered, self._asking = set(self._users), len(self._users)
        self._ended = asyncio.Event()

    async def run(self) -> Load:
        """Until the end of the time or of the requests, and every client has its last answer."""
        await asyncio.gather(*(user.connect() for user in self._users))
        # Counting starts amid the traffic: from a standstill, what is in flight at the end would be missing.
        self._settled = perf_counter() + self._bounds.settle_s
        if not self._bounds.settle_s:
            self._record.begin(self._bounds.duration_s)
        for user in self._users:
            self._ask(user)
        await self._ended.wait()
        for user in self._users:
            user.leave()
        exhausted = next(self._turns, None) is None
        return self._record.load(self._record.elapsed if exhausted else self._bounds.duration_s)

    def _ask(self, user: User) -> None:
        now = perf_counter()
        if now < self._record.end and next(self._turns, None) is not None:
            user.ask(now)
            return
        self._asking -= 1
        if not self._asking:
            self._ended.set()

    def _go_on(self, user: User, outcome: str) -> None:
        if not self._record.begun:
            self._unanswered.discard(user)
            if not self._unanswered and perf_counter() >= self._settled:
                self._record.begin(self._bounds.duration_s)
        if succeeded(outcome):
            self._ask(user)
        else:
            asyncio.get_running_loop().call_later(_PAUSE_S, self._ask, user)


class OpenLoop:
    """Arrivals that do not care for answers, as far as there are connections."""

    def __init__(self, target: Target, arrivals: Seconds, connections: int, bounds: Bounds) -> None:
        self._bounds, self._arrivals, self._record = bounds, arrivals, Record()
        number = min(connections, len(arrivals))
        self._users = [User(target, bounds.timeout_s, self._record, self._free_again) for _ in range(number)]
        self._free = deque(self._users)
        self._dues = deque[float]()
        self._alarmed = False
        self._ended = asyncio.Event()

    async def run(self) -> Load:
        """Until every arrival has its answer."""
        await asyncio.gather(*(user.connect() for user in self._users))
        self._alarm = Alarm(asyncio.get_running_loop(), self._send_due)
        start = self._record.begin(settle_s=self._bounds.settle_s) - self._bounds.settle_s
        self._dues.extend((start + self._arrivals).tolist())
        self._send_due()
        await self._ended.wait()
        self._alarm.close()
        for user in self._users:
            user.leave()
        exhausted = len(self._arrivals) == self._bounds.max_requests
        last_s = float(self._arrivals[-1]) - self._bounds.settle_s if exhausted else self._bounds.duration_s
        return self._record.load(max(0.0, last_s))

    def _send_due(self) -> None:
        """Send what is due while a connection is free, and look again when the next is."""
        self._alarmed, now = False, perf_counter()
        while self._free and self._dues and self._dues[0] <= now:
            due = self._dues.popleft()
            self._record.sent_late(due, now - due)
            self._free.popleft().ask(due)
        self._wait()

    def _free_again(self, user: User, outcome: str) -> None:
        if not self._free and self._dues and self._dues[0] <= perf_counter():
            user.ask(self._dues.popleft())  # it has waited for a connection, not for the generator
            return
        self._free.append(user)
        self._wait()

    def _wait(self) -> None:
        if not self._dues and len(self._free) == len(self._users):
            self._ended.set()
        elif self._dues and self._free and not self._alarmed:
            self._alarmed = True
            self._alarm.set(self._dues[0] - perf_counter())

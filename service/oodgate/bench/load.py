"""Load on a server of this machine: a closed loop of clients, or arrivals at a rate that does not care for answers.

Both are bounded in time and in requests, and every request has its own timeout.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import uvloop

from oodgate.bench.users import Load, Record, Seconds, Target, User


@dataclass(frozen=True)
class Bounds:
    """When to stop sending, and how long to wait for one answer."""

    duration_s: float
    max_requests: int = 1_000_000
    timeout_s: float = 30.0
    settle_s: float = 0.0  # at least so long, and until every client was answered, a closed loop counts nothing


def arrival_schedule(rate: float, bounds: Bounds, seed: int = 0) -> Seconds:
    """Times of a Poisson process with `rate` arrivals a second, ascending from 0; seeded."""
    random = np.random.default_rng(seed)
    times = random.uniform(0, bounds.duration_s, random.poisson(rate * bounds.duration_s))
    return np.sort(times)[: bounds.max_requests]


def run_closed(target: Target, clients: int, bounds: Bounds) -> Load:
    """Each client sends its next request when it has its answer; answers that come within the duration count."""
    return uvloop.run(_closed_loop(target, clients, bounds))


def run_open(target: Target, arrivals: Seconds, connections: int, bounds: Bounds) -> Load:
    """Send at the arrivals' times; latencies count from there, whether or not one of the connections was free."""
    return uvloop.run(_open_loop(target, arrivals, connections, bounds))


async def _closed_loop(target: Target, clients: int, bounds: Bounds) -> Load:
    users, record = await _connected(target, clients, bounds.timeout_s)
    turns = iter(range(bounds.max_requests))
    # Counting starts amid the traffic: from a standstill, what is in flight at the end would be missing.
    settled, unanswered = perf_counter() + bounds.settle_s, set(users)
    if not bounds.settle_s:
        record.begin(bounds.duration_s)

    async def send(user: User) -> None:
        while (now := perf_counter()) < record.end and next(turns, None) is not None:
            await user.ask(due=now)
            unanswered.discard(user)
            if not record.begun and not unanswered and perf_counter() >= settled:
                record.begin(bounds.duration_s)

    await _all(users, send)
    return record.load(record.elapsed if next(turns, None) is None else bounds.duration_s)


async def _open_loop(target: Target, arrivals: Seconds, connections: int, bounds: Bounds) -> Load:
    users, record = await _connected(target, min(connections, len(arrivals)), bounds.timeout_s)
    dues: Iterator[float] = iter((record.begin() + arrivals).tolist())

    async def send(user: User) -> None:
        for due in dues:
            if perf_counter() <= due:
                await _sleep_until(due)
                record.lateness.append(perf_counter() - due)
            await user.ask(due)

    await _all(users, send)
    return record.load(float(arrivals[-1]) if len(arrivals) == bounds.max_requests else bounds.duration_s)


async def _sleep_until(moment: float) -> None:
    while (wait := moment - perf_counter()) > 0:  # timers have a resolution of 1 ms and may be early
        await asyncio.sleep(wait)


async def _connected(target: Target, number: int, timeout_s: float) -> tuple[list[User], Record]:
    record = Record()
    users = [User(target, timeout_s, record) for _ in range(number)]
    await asyncio.gather(*(user.connect() for user in users))
    return users, record


async def _all(users: list[User], send: Callable[[User], Coroutine[Any, Any, None]]) -> None:
    await asyncio.gather(*(send(user) for user in users))
    for user in users:
        user.leave()

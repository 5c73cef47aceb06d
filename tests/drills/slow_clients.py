"""A drill: clients that trickle, that never read, that never say anything, beside clients that behave.

    python tests/drills/slow_clients.py --slow 200 --idle 2000

The well-behaved are timed with and without each kind of the slow, in turn. Exit status 1 where they lose more than a
fifth of their throughput or wait more than a fifth longer, or where the service keeps descriptors of clients that left.
"""

import argparse
import asyncio
import multiprocessing
import resource
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.synchronize import Event
from pathlib import Path

from drill import (
    DEFAULT_BUNDLE,
    Service,
    broken,
    conclude,
    errors,
    get_request,
    p99_ms,
    rate,
    service,
    settled,
    singles,
)

from oodgate.bench.connection import LOOPBACK
from oodgate.bench.load import Bounds, closed_loop
from oodgate.bench.users import Load, Target

LEAST_RATE, MOST_TIMES = 0.8, 1.2
LEFT_OVER = 4
BODY_TIMEOUT_MS = 5000
_TRICKLE_S = 1.0
_SMALL_WINDOW, _SMALL_SEGMENT = 2048, 536  # or the kernel would take whole answers for those who never read
_HEAD = f"POST /v1/predict HTTP/1.1\r\nHost: {LOOPBACK}\r\nContent-Type: image/png\r\n".encode()

Misbehave = Callable[[int], Awaitable[None]]


@dataclass
class Measured:
    """The well-behaved without the slow and with them."""

    without: list[Load] = field(default_factory=list)
    beside: list[Load] = field(default_factory=list)


async def trickle_headers(port: int) -> None:
    """A head that never ends."""
    await trickle(port, _HEAD + b"X-Slow: ")


async def trickle_body(port: int) -> None:
    """A body that never ends; the service hangs up on it after its time."""
    await trickle(port, _HEAD + b"Content-Length: 100000\r\n\r\n")


async def trickle(port: int, beginning: bytes) -> None:
    """Send a beginning and then a byte now and then, until the service closes."""
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    writer.write(beginning)
    while not reader.at_eof():
        writer.write(b"x")
        with suppress(TimeoutError):
            await asyncio.wait_for(reader.read(1000), _TRICKLE_S)


async def never_read(port: int) -> None:
    """Ask for a large page and leave it where it is."""
    unread = socket.socket()
    unread.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_WINDOW)
    unread.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SMALL_SEGMENT)
    unread.setblocking(False)
    await asyncio.get_running_loop().sock_connect(unread, (LOOPBACK, port))
    unread.send(get_request("/openapi.json") * 3)
    try:
        await asyncio.sleep(3600)
    finally:
        unread.close()


async def stay_silent(port: int) -> None:
    """A connection and nothing else."""
    reader, _ = await asyncio.open_connection(LOOPBACK, port)
    await reader.read()


KINDS: dict[str, Misbehave] = {
    "slow headers": trickle_headers,
    "slow bodies": trickle_body,
    "unread answers": never_read,
    "idle": stay_silent,
}


@contextmanager
def crowd(kind: str, clients: int, port: int) -> Iterator[None]:
    """Slow clients in a process of their own, all of them connected."""
    ready = multiprocessing.Event()
    process = multiprocessing.Process(target=run_crowd, args=(kind, clients, port, ready), daemon=True)
    process.start()
    try:
        assert ready.wait(60), "the slow clients do not get through"
        yield
    finally:
        process.kill()
        process.join()


def run_crowd(kind: str, clients: int, port: int, ready: Event) -> None:
    """Misbehave for ever; whoever is hung up on comes again."""

    async def misbehave() -> None:
        while True:
            with suppress(OSError):
                await KINDS[kind](port)
            await asyncio.sleep(0.1)

    async def everybody() -> None:
        clients_at_work = [asyncio.create_task(misbehave()) for _ in range(clients)]
        await asyncio.sleep(2.0)
        ready.set()
        await asyncio.gather(*clients_at_work)

    asyncio.run(everybody())


def measure(running: Service, options: argparse.Namespace) -> tuple[dict[str, Measured], dict[str, int]]:
    """Every kind in turn; and the most descriptors that the service had open beside it."""
    target, open_files = Target(running.port, singles(options.bundle)), {}
    measured = {kind: Measured() for kind in KINDS}
    asyncio.run(closed_loop(target, options.clients, Bounds(2.0)))
    for _ in range(options.rounds):
        for kind, figures in measured.items():
            figures.without.append(asyncio.run(closed_loop(target, options.clients, Bounds(options.seconds))))
            with crowd(kind, options.idle if kind == "idle" else options.slow, running.port):
                figures.beside.append(asyncio.run(closed_loop(target, options.clients, Bounds(options.seconds))))
                open_files[kind] = running.descriptors
    return measured, open_files


def judge(measured: dict[str, Measured], open_files: dict[str, int], before: float, after: float) -> int:
    """The line, and whether nobody was hurt."""
    faults = broken((after > before + LEFT_OVER, f"{after:.0f} descriptors are open afterwards, not {before:.0f}"))
    figures = []
    for kind, found in measured.items():
        kept, times = rate(found.beside) / rate(found.without), p99_ms(found.beside) / p99_ms(found.without)
        wrong = errors([*found.without, *found.beside])
        figures.append(f"{kind} ({open_files[kind]} descriptors): rate x {kept:.2f}, p99 x {times:.2f}")
        faults += broken(
            (kept < LEAST_RATE, f"{kind}: rate x {kept:.2f}, expected {LEAST_RATE:g}"),
            (times > MOST_TIMES, f"{kind}: p99 x {times:.2f}, expected {MOST_TIMES:g}"),
            (bool(wrong), f"{kind}: unexpected answers: {wrong}"),
        )
    loads = [load for found in measured.values() for load in found.without]
    undisturbed = f"{rate(loads):.0f}/s, p99 {p99_ms(loads):.0f} ms undisturbed"
    return conclude(f"{undisturbed}; {'; '.join(figures)}; descriptors {before:.0f} -> {after:.0f}", faults)


def main() -> int:
    """Run the drill against a service of its own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE)
    parser.add_argument("--slow", type=int, default=200)
    parser.add_argument("--idle", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=8, help="that behave")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=4, help="of half a round of one kind")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with service(options.bundle, body_timeout_ms=BODY_TIMEOUT_MS) as running:
        before = running.descriptors
        measured, open_files = measure(running, options)
        after = settled(lambda: running.descriptors, before + LEFT_OVER, 10)
    return judge(measured, open_files, before, after)


if __name__ == "__main__":
    sys.exit(main())

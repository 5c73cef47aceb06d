"""A service of its own to measure: started on a free port with the operator's settings, loaded, watched, ended."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from sys import executable
from tempfile import TemporaryDirectory
from time import perf_counter

from oodgate.bench.connection import LOOPBACK, build_request
from oodgate.bench.load import Bounds, arrival_schedule, run_closed, run_open
from oodgate.bench.pictures import ImageFile
from oodgate.bench.process import Usage, free_port, get, running, usage, wait_until_ready
from oodgate.bench.stages import Inside, Totals, between, read_totals
from oodgate.bench.users import Load, Target, percentile_ms
from oodgate.errors import SetupError
from oodgate.settings import Settings

SERVE = "oodgate.cli"
CONNECTIONS = 256
"""Most requests in flight of an open loop; further arrivals wait for a connection, and their latency counts that."""

SETTLE_S = 1.0
"""Time before a load counts; it warms up batches of the sizes that so many clients bring, and their connections."""

_PREFIX = "OODGATE_"
# One bundle on a port of its own; and nothing of the load may enter the operator's evidence of drift or quarantine.
_NOT_PASSED_ON = {"models", "default_model", "host", "port", "admin_port", "state_dir", "quarantine"}
_NOT_PASSED_ON |= {"api_keys", "tls_certificate", "tls_key", "allowed_hosts"}  # the generator speaks plain HTTP


@dataclass(frozen=True)
class Row:
    """One load: what its clients saw, and what it did to the service."""

    clients: int | None  # of a closed loop
    rate: float | None  # arrivals a second of an open loop
    requests: int
    requests_per_s: float
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    errors: dict[str, int]  # by status or by what went wrong
    inside: Inside
    server_cpu: float | None  # cores
    server_rss_mb: float | None
    generator_cpu: float  # cores
    late_p99_ms: float | None  # how late the generator of an open loop was itself


@dataclass(frozen=True)
class Service:
    """A service that runs, and what is sent to it."""

    pid: int
    target: Target

    def closed(self, clients: int, duration_s: float) -> Row:
        """Measure so many clients once all of them have been answered."""
        bounds = Bounds(duration_s, settle_s=min(SETTLE_S, duration_s))
        return self._measure(lambda: run_closed(self.target, clients, bounds), clients, None)

    def open(self, rate: float, duration_s: float) -> Row:
        """Measure arrivals at a rate."""
        bounds = Bounds(duration_s, settle_s=min(SETTLE_S, duration_s))
        arrivals = arrival_schedule(rate, bounds)
        return self._measure(lambda: run_open(self.target, arrivals, CONNECTIONS, bounds), None, rate)

    def _measure(self, run: Callable[[], Load], clients: int | None, rate: float | None) -> Row:
        totals, before, start = self._totals(), usage(self.pid), perf_counter()
        load = run()
        after, seconds = usage(self.pid), perf_counter() - start
        return Row(
            clients=clients,
            rate=rate,
            requests=sum(load.outcomes.values()),
            requests_per_s=load.requests_per_s,
            p50_ms=percentile_ms(load.latencies, 50),
            p95_ms=percentile_ms(load.latencies, 95),
            p99_ms=percentile_ms(load.latencies, 99),
            errors=load.errors,
            inside=between(totals, self._totals()),
            server_cpu=_cpu(before, after, seconds),
            server_rss_mb=after.rss_bytes / 1e6 if after else None,
            generator_cpu=load.generator_cpu,
            late_p99_ms=percentile_ms(load.lateness, 99),
        )

    def _totals(self) -> Totals:
        return read_totals(get(self.target.port, "/metrics")[1])


def answered(row: Row) -> Row:
    """The load; raises SetupError where none of its answers was good, as nothing can be compared with that."""
    if not row.requests_per_s:
        told = ", ".join(f"{status}: {number}" for status, number in row.errors.items()) or "none in time"
        raise SetupError(
            f"the service gave no good answer (by status: {told}); change the settings, or --duration where it is short"
        )
    return row


@contextmanager
def serving(
    settings: Settings, files: Sequence[ImageFile], module: str = SERVE, state: Path | None = None
) -> Iterator[Service]:
    """A service with these settings that is sent these files; ended with the block.

    In the folder `state`, if it is given, it keeps what it has measured of the network, and finds it again.
    """
    port = free_port()
    command = [executable, "-m", module, *(["serve"] if module == SERVE else [])]
    requests = [build_request("/v1/predict", file.data, {"Content-Type": file.content_type}) for file in files]
    with TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        environment = environment_of(settings, port) | ({f"{_PREFIX}STATE_DIR": str(state)} if state else {})
        with running(command, environment, log) as process:
            wait_until_ready(process, port, "/readyz", log)
            yield Service(process.pid, Target(port, requests))


def environment_of(settings: Settings, port: int) -> dict[str, str]:
    """The variables of a process that serves the settings' bundle, and no other, on this port."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_PREFIX)}
    passed = settings.model_dump(exclude_none=True, exclude=_NOT_PASSED_ON)
    passed |= {"bundle": settings.bundle.resolve(), "host": LOOPBACK, "port": port}
    return kept | {_PREFIX + name.upper(): str(value) for name, value in passed.items()}


def _cpu(before: Usage | None, after: Usage | None, seconds: float) -> float | None:
    return (after.cpu_s - before.cpu_s) / seconds if before and after else None

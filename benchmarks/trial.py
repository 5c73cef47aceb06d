"""One server on one job: started, asked once, loaded by so many clients after another, ended."""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, perf_counter, sleep

from catalogue import PEERS, SERVERS, Message
from jobs import MAX_BATCH, WORKERS, Job, threads

from oodgate.bench.connection import LOOPBACK, build_request
from oodgate.bench.load import Bounds, run_closed
from oodgate.bench.process import Child, free_port, last_lines, running, usage
from oodgate.bench.served import environment_of
from oodgate.bench.users import Target, percentile_ms
from oodgate.errors import SetupError
from oodgate.settings import Settings

START_S, SETTLE_S = 180.0, 2.0
OWN = ("oodgate", "oodgate-plain")


@dataclass(frozen=True)
class Row:
    """One load of one server."""

    peer: str
    clients: int
    requests_per_s: float
    p50_ms: float | None
    p99_ms: float | None
    errors: dict[str, int]
    cpu: float | None  # cores
    rss_mb: float | None


@dataclass(frozen=True)
class Trial:
    """All loads of one server, and the classes that it found in the files."""

    classes: tuple[int, ...]
    rows: tuple[Row, ...]


def run_trial(name: str, job: Job, python: Path, clients: Sequence[int], duration_s: float) -> Trial:
    """Raises SetupError with the reason where the server does not answer."""
    messages = [PEERS[name].message(file) for file in job.files]
    requests = [build_request(message.path, message.body, message.headers) for message in messages]
    with started(name, job, python) as (process, target_port, log):
        wait_for_answer(process, target_port, messages[0], log)
        classes = _classes(name, target_port, messages)
        rows = tuple(_load(name, process, Target(target_port, requests), number, duration_s) for number in clients)
    return Trial(classes, rows)


@contextmanager
def started(name: str, job: Job, python: Path) -> Iterator[tuple[Child, int, Path]]:
    """The process, its port and its log."""
    port = free_port()
    words = [word.format(port=port) for word in PEERS[name].words]
    with TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with running([str(python), *words], _environment(name, job, port, python, folder), log) as process:
            yield process, port, log


def wait_for_answer(process: Child, port: int, message: Message, log: Path) -> None:
    """Wait for the first good answer; raises SetupError with the end of the log where none comes."""
    deadline = monotonic() + START_S
    while True:
        try:
            answer(port, message)
            return
        except (OSError, HTTPException, ValueError) as error:
            if process.poll() is not None or monotonic() > deadline:
                why = "it does not answer" if process.poll() is None else f"it ended with status {process.returncode}"
                raise SetupError(f"{why} ({error}): {last_lines(log)}") from error
        sleep(0.2)


def answer(port: int, message: Message) -> dict:
    """The document that answers; raises ValueError where the status is not 200."""
    connection = HTTPConnection(LOOPBACK, port, timeout=60)
    try:
        connection.request("POST", message.path, message.body, dict(message.headers))
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    if response.status != 200:
        raise ValueError(f"status {response.status}: {body[:200].decode(errors='replace')}")
    return json.loads(body)


def _classes(name: str, port: int, messages: Sequence[Message]) -> tuple[int, ...]:
    try:
        return tuple(PEERS[name].top1(answer(port, message)) for message in messages)
    except (OSError, HTTPException, ValueError, LookupError, TypeError) as error:
        raise SetupError(f"its answer has no class: {error!r}") from error


def _load(name: str, process: Child, target: Target, clients: int, duration_s: float) -> Row:
    before, start = usage(process.pid), perf_counter()
    load = run_closed(target, clients, Bounds(duration_s, settle_s=min(SETTLE_S, duration_s)))
    after, seconds = usage(process.pid), perf_counter() - start
    return Row(
        peer=name,
        clients=clients,
        requests_per_s=load.requests_per_s,
        p50_ms=percentile_ms(load.latencies, 50),
        p99_ms=percentile_ms(load.latencies, 99),
        errors=load.errors,
        cpu=(after.cpu_s - before.cpu_s) / seconds if before and after else None,
        rss_mb=after.rss_bytes / 1e6 if after else None,
    )


def _environment(name: str, job: Job, port: int, python: Path, folder: str) -> dict[str, str]:
    if name in OWN:
        plain = {"workers": WORKERS, "threads": threads(), "max_batch": MAX_BATCH}
        given = plain if name == "oodgate-plain" else {}
        return environment_of(Settings(bundle=job.bundle, **vars(job.where), **given), port)
    own = {"JOB": str(job.description), "PORT": str(port), "WORK": folder, "PYTHONPATH": str(SERVERS)}
    return {**os.environ, **own, "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}


def interpreter(name: str, environments: Path) -> Path:
    """The Python of a peer: of the environment named after it, else of the one that all share."""
    if name in OWN:
        return Path(sys.executable)
    for folder in (environments / name, environments):
        if (python := folder.absolute() / "bin" / "python").exists():
            return python
    raise SetupError(f"there is no environment; make it with benchmarks/make_env.sh {name} {environments / name}")

"""A server as a child process: started, awaited, watched from outside, and ended with all of its own children."""

import os
import re
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from socket import socket
from time import monotonic, sleep
from types import FrameType
from typing import NoReturn

from oodgate.bench.connection import LOOPBACK
from oodgate.errors import SetupError

Child = subprocess.Popen[bytes]

_GRACE_S = 5.0
_PROC = Path("/proc")
_LOG_LINES = 3
_ERROR = re.compile(r"[\w.]*(Error|Exception): ")


@dataclass(frozen=True)
class Usage:
    """What a process and its children have used: CPU seconds since their start, memory now (shared pages in each)."""

    cpu_s: float
    rss_bytes: int


@contextmanager
def running(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Iterator[Child]:
    """A command in a process group of its own, which is ended with the block, also where a signal ends that."""
    with _ended_by_sigterm(), log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603  # the command is the caller's own
            command, env=dict(environment), stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            yield process
        finally:
            end_group(process)


def end_group(process: Child) -> None:
    """SIGTERM, some seconds, SIGKILL: for the process and what it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def get(port: int, path: str, timeout_s: float = 10.0) -> tuple[int, str]:
    """Status and text of a GET; status 0 where there is no answer."""
    connection = HTTPConnection(LOOPBACK, port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    except (OSError, HTTPException):
        return 0, ""
    finally:
        connection.close()


def wait_until_ready(process: Child, port: int, path: str, log: Path, timeout_s: float = 600.0) -> None:
    """Wait for a 200; raises SetupError with the end of the log where the process ends or takes too long."""
    deadline = monotonic() + timeout_s
    while get(port, path)[0] != 200:
        if process.poll() is not None or monotonic() > deadline:
            why = "did not become ready" if process.poll() is None else f"ended with status {process.returncode}"
            raise SetupError(f"the server {why}: {last_lines(log)}")
        sleep(0.05)


def last_lines(log: Path) -> str:
    """The last error that a log names, else its end, in one line."""
    lines = log.read_text(errors="replace").strip().splitlines()
    errors = [line.strip() for line in lines if _ERROR.match(line.strip())]
    return " | ".join(errors[-1:] or lines[-_LOG_LINES:])


def usage(pid: int) -> Usage | None:
    """What the process and those below it have used; None on systems without /proc."""
    if not (_PROC / "self" / "stat").exists():
        return None
    rows = {int(path.name): row for path in _PROC.glob("[0-9]*") if (row := _stat(path))}
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    tree = [rows[member] for member in _tree(pid, rows) if member in rows]
    cpu = sum(int(ticks_used) for row in tree for ticks_used in row[11:15])  # own and of children that ended
    return Usage(cpu / ticks, page * sum(int(row[21]) for row in tree))


def _stat(path: Path) -> list[str] | None:
    """The fields of /proc/PID/stat after the name, which may hold blanks; None where the process has ended."""
    with suppress(OSError):
        # The kernel cuts names to 15 bytes, some of them within a letter.
        return (path / "stat").read_text(errors="replace").rpartition(")")[2].split()
    return None


def _tree(pid: int, rows: Mapping[int, Sequence[str]]) -> Iterator[int]:
    below = defaultdict(list)
    for member, row in rows.items():
        below[int(row[1])].append(member)
    todo = [pid]
    while todo:
        yield (member := todo.pop())
        todo += below[member]


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM raise, so that children are ended by those who started them."""

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

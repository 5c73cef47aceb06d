"""The cores that this process may use, where a container's limit counts, and what kind of processor they are of."""

import os
import platform
import re
from collections.abc import Iterator
from contextlib import suppress
from math import ceil, inf
from pathlib import Path

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")


def available_cores() -> int:
    """Cores that this process may run on, or fewer where its control groups give it less time than those have."""
    return max(1, ceil(min((_allowed(), *_quotas()))))


def limit_threads() -> None:
    """Let libraries that load later start no more threads than that; by themselves they know no control groups."""
    if (cores := available_cores()) < _allowed():
        os.environ.setdefault("OMP_NUM_THREADS", str(cores))


def processor() -> str:
    """The name of the processor, as far as the system tells it."""
    named = re.search(r"^model name\s*:\s*(.+)$", _text(_PROC / "cpuinfo"), re.MULTILINE)
    return named[1] if named else platform.machine()


def _allowed() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quotas() -> Iterator[float]:
    """Cores' worth of time by every limit above this process (cgroups(7): "cpu.max" in version 2, "cfs" in 1)."""
    for line in _text(_PROC / "self/cgroup").splitlines():
        number, controllers, place = line.split(":", 2)
        if number == "0" or "cpu" in controllers.split(","):
            mounted = _CGROUPS if number == "0" else _CGROUPS / "cpu"
            # A container may see its own group alone, mounted as the topmost.
            own = mounted / place.lstrip("/")
            for folder in (own, *own.parents):
                if folder.is_relative_to(mounted):
                    yield _quota(folder)


def _quota(folder: Path) -> float:
    entries = _text(folder / "cpu.max") or f"{_text(folder / 'cpu.cfs_quota_us')} {_text(folder / 'cpu.cfs_period_us')}"
    with suppress(ValueError):  # "max", or a group without the files
        quota, period = (int(entry) for entry in entries.split())
        if quota > 0 and period > 0:
            return quota / period
    return inf


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""

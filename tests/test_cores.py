"""Cores by what the scheduler allows and by what control groups leave of their time."""

import os
from pathlib import Path

import pytest

from oodgate import cores
from oodgate.cores import available_cores, limit_threads, processor

ALLOWED = 16


@pytest.fixture(autouse=True)
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of sixteen cores, whose files of the kernel the test writes."""
    monkeypatch.setattr(cores, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(cores, "_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(ALLOWED)))
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("max 100000\n", 16),
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),
        ("50000 100000\n", 1),
        ("1000 100000\n", 1),
        ("3200000 100000\n", 16),
        ("", 16),
        ("damaged", 16),
        ("0 0\n", 16),
    ],
)
def test_a_containers_limit_counts_and_part_of_a_core_is_one(system: Path, limit: str, expected: int) -> None:
    write(system / "proc/self/cgroup", "0::/\n")
    write(system / "cgroup/cpu.max", limit)
    assert available_cores() == expected


def test_the_least_of_all_limits_above_counts(system: Path) -> None:
    write(system / "proc/self/cgroup", "0::/system.slice/gate.service\n")
    write(system / "cgroup/system.slice/cpu.max", "300000 100000\n")
    write(system / "cgroup/system.slice/gate.service/cpu.max", "800000 100000\n")
    write(system / "cpu.max", "100000 100000\n")  # beside the groups
    assert available_cores() == 3


@pytest.mark.parametrize("controllers", ["cpu", "cpu,cpuacct", "cpuacct,cpu"])
@pytest.mark.parametrize("mounted", ["", "docker/0123"])
def test_a_limit_of_the_first_version_counts_also_where_the_own_group_is_the_topmost(
    system: Path, controllers: str, mounted: str
) -> None:
    write(system / "proc/self/cgroup", f"5:memory:/docker/0123\n4:{controllers}:/docker/0123\n")
    write(system / "cgroup/cpu" / mounted / "cpu.cfs_quota_us", "400000\n")
    write(system / "cgroup/cpu" / mounted / "cpu.cfs_period_us", "100000\n")
    assert available_cores() == 4


def test_no_limit_of_the_first_version_is_none(system: Path) -> None:
    write(system / "proc/self/cgroup", "4:cpu,cpuacct:/\n3:cpuset:/\n")
    write(system / "cgroup/cpu/cpu.cfs_quota_us", "-1\n")
    write(system / "cgroup/cpu/cpu.cfs_period_us", "100000\n")
    assert available_cores() == 16


def test_without_control_groups_the_scheduler_decides() -> None:
    assert available_cores() == ALLOWED


@pytest.mark.parametrize(
    ("before", "quota", "expected"), [(None, "200000", "2"), ("7", "200000", "7"), (None, "max", None)]
)
def test_libraries_are_told_of_a_limit_unless_the_operator_has(
    system: Path, monkeypatch: pytest.MonkeyPatch, before: str | None, quota: str, expected: str | None
) -> None:
    write(system / "proc/self/cgroup", "0::/\n")
    write(system / "cgroup/cpu.max", f"{quota} 100000\n")
    monkeypatch.setenv("OMP_NUM_THREADS", before or "")
    if before is None:
        monkeypatch.delenv("OMP_NUM_THREADS")
    limit_threads()
    assert os.environ.get("OMP_NUM_THREADS") == expected


def test_the_processor_has_the_name_that_the_system_tells(system: Path) -> None:
    assert processor() == os.uname().machine
    write(system / "proc/cpuinfo", "processor\t: 0\nmodel name\t: Fast 9000\n\nmodel name\t: Fast 9000\n")
    assert processor() == "Fast 9000"

"""A drill: the disk of state and quarantine is full while clients send, then has room again, then is full at a start.

    python tests/drills/disk.py        # needs a kernel that lets users mount within a namespace of their own

The clients know the right answers. Exit status 1 where one is lost, wrong or late, where the evidence of drift is not
written when there is room again, or where the service does not start.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import sleep

from drill import broken, conclude, service
from witnesses import Account, Witnesses, reference_of, small_bundle

from oodgate.errors import SetupError

_INSIDE = "DRILL_IN_NAMESPACE"
_WRITES_EVERY_S = 10
_DISK, _IMAGES_BYTES = "32M", 1_000_000


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A disk of its own, mounted for the block."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Take all that is free; the file that has it."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            pass
    return ballast


@dataclass(frozen=True)
class Served:
    """What happened while the disk was full, and what was written when it had room again."""

    account: Account
    not_kept: float
    complaints: int
    evidence: list[int]

    def __str__(self) -> str:
        kept = f"{self.not_kept:.0f} images not kept, {self.complaints} complaints in the log"
        return f"{self.account}, {kept}, evidence of {sum(self.evidence)} bytes when there was room again"


def serve(bundle: Path, disk: Path) -> Served:
    """Serve with room, without and with room again."""
    keeping = {"quarantine": disk / "images", "quarantine_accepted_share": 1, "quarantine_bytes": _IMAGES_BYTES}
    with (
        service(bundle, state_dir=disk / "state", **keeping) as running,
        Witnesses(running.url, reference_of(bundle)) as witnesses,
    ):
        sleep(1)
        ballast = fill(disk)
        sleep(_WRITES_EVERY_S + 2)
        not_kept = running.metric("quarantine_total", outcome="failed")
        complaints = running.log.read_text().count("cannot be kept")
        ballast.unlink()
        sleep(_WRITES_EVERY_S + 2)
        evidence = [path.stat().st_size for path in (disk / "state").glob("drift-*.json")]
    return Served(witnesses.account, not_kept, complaints, evidence)


def full_disk(work: Path) -> int:
    """The whole drill, in a folder for its files."""
    bundle = small_bundle(work)
    with small_disk(work / "disk") as disk:
        served = serve(bundle, disk)
        shutil.rmtree(disk / "state")
        fill(disk)
        started = starts(bundle, disk / "state")
    faults = served.account.lost + broken(
        (not served.complaints, "the log does not complain"),
        (not served.evidence or not all(served.evidence), "no evidence was written when there was room again"),
        (started != "yes", f"it does not start while the disk is full: {started}"),
    )
    return conclude(f"full disk: {served}; starts while it is full: {started[:3].strip(',')}", faults)


def starts(bundle: Path, state: Path) -> str:
    """Whether a service starts, and if not, why."""
    try:
        with service(bundle, state_dir=state):
            return "yes"
    except SetupError as error:
        return f"no, {error}"


def main() -> int:
    """Run the drill against a service of its own."""
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0]).parse_args()
    if _INSIDE not in os.environ:  # mounts end with their namespace, and need no privilege
        command = ["unshare", "--map-root-user", "--mount", sys.executable, *sys.argv]
        return subprocess.run(command, env={**os.environ, _INSIDE: "1"}).returncode
    with TemporaryDirectory() as folder:
        return full_disk(Path(folder))


if __name__ == "__main__":
    sys.exit(main())

"""A drill: the wall clock jumps a day ahead and a day behind while clients send.

    python tests/drills/clock.py        # needs a C compiler, for what moves the clock of one process

The monotonic clock is left alone, as it is where an operator sets the clock. Exit status 1 where an answer is lost,
wrong or late, or the service does not stop as ever.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path
from signal import SIGTERM
from tempfile import TemporaryDirectory
from time import sleep

from drill import FOLDER, broken, conclude, service
from witnesses import Witnesses, reference_of, small_bundle

_DAY_S, _DAYS = 86_400, 3


def build(library: Path) -> None:
    """What the service preloads to have another wall clock; raises OSError where there is no compiler."""
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, FOLDER / "jumping_clock.c", "-ldl"], check=True)


def set_ahead(jump: Path, seconds: int) -> None:
    """Set the clock."""
    with jump.open("r+b") as file:
        file.write(seconds.to_bytes(8, sys.byteorder, signed=True))


def jumping_clock(work: Path) -> int:
    """The whole drill, in a folder for its files."""
    bundle, library, jump = small_bundle(work), work / "jumping_clock.so", work / "jump"
    build(library)
    jump.write_bytes(bytes(8))
    variables = {"LD_PRELOAD": str(library), "DRILL_CLOCK": str(jump)}
    with service(bundle, variables=variables, state_dir=work / "state") as running:
        with Witnesses(running.url, reference_of(bundle)) as witnesses:
            for seconds in (0, _DAY_S, -_DAY_S, 0):
                set_ahead(jump, seconds)
                sleep(2)
        days = len(set(re.findall(r'"timestamp":"([0-9-]{10})', running.log.read_text())))
        running.process.send_signal(SIGTERM)
        status = running.process.wait(30)
    unmoved = (days < _DAYS, f"the log knows {days} days: the clock did not jump")
    faults = witnesses.account.lost + broken(unmoved, (status != 0, f"exit status {status}"))
    return conclude(f"clock: {witnesses.account}, the log has {days} days, exit {status}", faults)


def main() -> int:
    """Run the drill against a service of its own."""
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0]).parse_args()
    with TemporaryDirectory() as folder:
        return jumping_clock(Path(folder))


if __name__ == "__main__":
    sys.exit(main())

"""A service whose every forward sleeps too, so that its capacity is far below what the cores and the load can do.

The drill `overload.py` starts it: `OODGATE_*` as for the service, and the milliseconds in DRILL_SLEEP_MS.
"""

import os
from collections.abc import Sequence
from time import sleep

from oodgate.cli import main
from oodgate.errors import InferenceFailed
from oodgate.gate import Gate, Pixels, Verdict

SLEEP_S = float(os.environ["DRILL_SLEEP_MS"]) / 1000
_judge = Gate.judge


def judge(gate: Gate, pixels: Sequence[Pixels]) -> Sequence[Verdict | InferenceFailed]:
    """The gate's own verdicts, later."""
    sleep(SLEEP_S)
    return _judge(gate, pixels)


if __name__ == "__main__":
    Gate.judge = judge  # type: ignore[assignment,method-assign]
    main()

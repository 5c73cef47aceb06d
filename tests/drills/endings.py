"""A drill: the service is stopped, or killed, while clients send; then it is started again with what it left behind.

    python tests/drills/endings.py stop --rounds 3     # SIGTERM: what was accepted is answered, once, and the exit is 0
    python tests/drills/endings.py kill --rounds 5     # SIGKILL: one answer or a closed connection, never a wrong one

The clients know the right answers. Exit status 1 where one is wrong, given twice, or lost without need.
"""

import argparse
import json
import random
import signal
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep

from drill import conclude, service
from witnesses import CLOSED, UNREACHABLE, Account, Reference, Witnesses, reference_of, small_bundle

DRAIN_DELAY_MS = 500
MOST_EXIT_S = 5.0
_DAMAGED = ("damaged", "Traceback")


@dataclass
class Endings:
    """What happened in all rounds."""

    statuses: Counter[int] = field(default_factory=Counter)
    closed: int = 0
    exits_s: list[float] = field(default_factory=list)
    starts_s: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def take(self, account: Account, log: str) -> None:
        """Count a round."""
        self.statuses.update(account.statuses)
        self.closed += account.closed
        self.faults += account.faults
        self.faults += [line for line in log.splitlines() if any(word in line for word in _DAMAGED)]


def play(
    bundle: Path, reference: Reference, state: Path, ending: signal.Signals, wait_s: float, endings: Endings
) -> None:
    """One life of the service."""
    began = monotonic()
    with service(bundle, state_dir=state, max_batch=8, workers=2, drain_delay_ms=DRAIN_DELAY_MS) as running:
        endings.starts_s.append(monotonic() - began)
        with Witnesses(running.url, reference) as witnesses:
            sleep(wait_s)
            ended = monotonic()
            running.process.send_signal(ending)
            status = running.process.wait(60)
            endings.exits_s.append(monotonic() - ended)
        log = running.log.read_text()
    endings.take(witnesses.account, log)
    if ending == signal.SIGTERM:
        endings.faults += losses(witnesses.account, log)
        endings.faults += [f"exit status {status}"] if status else []


def losses(account: Account, log: str) -> list[str]:
    """Requests that the service says it answered and the client does not, or that it answered twice."""
    logged = Counter[str]()
    for line in log.splitlines():
        record = json.loads(line) if line.startswith("{") else {}
        if record.get("event") == "request" and record.get("path") == "/v1/predict":
            logged[record["request_id"]] += 1
    faults = [f"{request} was answered {times} times" for request, times in logged.items() if times > 1]
    for one in account.outcomes:
        if one.status == CLOSED and logged[one.request]:
            faults.append(f"{one.request} was accepted, and its answer did not arrive")
        if one.status not in (CLOSED, UNREACHABLE) and not logged[one.request]:
            faults.append(f"{one.request} got {one.status}, which the log does not know")
    return faults


def judge(endings: Endings, name: str) -> int:
    """The line, and whether every round ended well."""
    faults = list(endings.faults)
    if max(endings.exits_s) > MOST_EXIT_S:
        faults.append(f"an exit took {max(endings.exits_s):.1f} s")
    if not endings.statuses[200] or set(endings.statuses) - {200, 503}:
        faults.append(f"unexpected statuses {dict(endings.statuses)}")
    return conclude(
        f"{len(endings.exits_s)} times {name}: {dict(sorted(endings.statuses.items()))}, {endings.closed} closed "
        f"connections, {len(endings.faults)} wrong, twice or lost; gone after at most {max(endings.exits_s):.2f} s, "
        f"ready again after at most {max(endings.starts_s):.1f} s",
        faults,
    )


def main() -> int:
    """Run the drill against services of its own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("how", choices=("stop", "kill"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance, endings = random.Random(options.seed), Endings()
    ending = signal.SIGTERM if options.how == "stop" else signal.SIGKILL
    with TemporaryDirectory() as folder:
        bundle = small_bundle(Path(folder))
        reference = reference_of(bundle)
        for _ in range(options.rounds):
            play(bundle, reference, Path(folder) / "state", ending, chance.uniform(0.5, 2.5), endings)
    return judge(endings, ending.name)


if __name__ == "__main__":
    sys.exit(main())

"""A drill: a forward that never ends, under load.

    python tests/drills/hang.py --hang-timeout-ms 2000

Exit status 1 where anybody who waits is not answered 503, a probe still finds the service ready afterwards, or the
process does not end in time with a status other than 0.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from subprocess import TimeoutExpired
from tempfile import TemporaryDirectory
from threading import Event
from time import monotonic, sleep

import httpx
from drill import Service, broken, conclude, service
from reload import write_images
from witnesses import Account, Outcome, Witnesses, reference_of

from networks import ENDLESS, plain, trouble_bundle
from oodgate.bench.process import get

CLIENTS = 8
MOST_OVER_S = 3.0
_GIVE_UP_S = 60.0
_AT_ONCE_S = 0.1


def probe(running: Service, over: Event) -> list[tuple[float, int, float]]:
    """When readiness was asked for, and what it and the worker's metric said; 0 and 1 where nobody answered."""
    seen = []
    while not over.is_set():
        asked = monotonic()
        ready = get(running.port, "/readyz", 2.0)[0]
        seen.append((asked, ready, running.metric("worker_up") if ready else 1.0))
        over.wait(0.02)
    return seen


def hang(url: str) -> Outcome:
    """Send the picture that the network never ends with."""
    sent = monotonic()
    answer = httpx.post(f"{url}/v1/predict", content=plain("white"), headers={"Content-Type": "image/png"}, timeout=60)
    return Outcome("white", sent, monotonic(), answer.status_code)


@dataclass(frozen=True)
class Hung:
    """What was seen of one hang."""

    account: Account
    white: Outcome
    probes: Sequence[tuple[float, int, float]]
    took_s: float  # to the exit
    status: int | None

    @property
    def waiting(self) -> list[Outcome]:
        """Requests whose clients waited when the service gave up."""
        given_up_s = self.white.ended_s - _AT_ONCE_S
        return [one for one in self.account.outcomes if one.sent_s < given_up_s < one.ended_s]

    @property
    def readiness(self) -> Counter[int]:
        """What the probes found afterwards."""
        return Counter(status for asked, status, _ in self.probes if asked > self.white.ended_s + _AT_ONCE_S)


def judge(hung: Hung, limit_s: float) -> int:
    """The line, and whether everybody was told."""
    told, waiters = sum(one.status == 503 for one in hung.waiting), len(hung.waiting)
    statuses = hung.account.statuses
    faults = hung.account.faults + broken(
        (hung.white.status != 503, f"the cause got {hung.white.status}"),
        (told < max(1, waiters), f"{told} of {waiters} waiters got 503"),
        (200 in hung.readiness, "the service was ready after it had given up"),
        (hung.status in (None, 0), f"exit status {hung.status}"),
        (hung.took_s > limit_s + MOST_OVER_S, f"it took {hung.took_s:.1f} s from the hang to the exit"),
        (not set(statuses) <= {200, 503}, f"unexpected statuses {statuses}"),
    )
    gave_up_s, downs = hung.white.ended_s - hung.white.sent_s, sum(up == 0 for _, _, up in hung.probes)
    return conclude(
        f"{statuses}, {told} of {waiters} waiters and the cause told 503 after "
        f"{gave_up_s:.2f} s, exit {hung.status} after {hung.took_s:.2f} s; probes afterwards "
        f"{dict(hung.readiness)} (0: nobody listens), worker_up 0 seen {downs} times, "
        f"{hung.account.closed} connections closed",
        faults,
    )


def main() -> int:
    """Run the drill against a service of its own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hang-timeout-ms", type=float, default=2000)
    options = parser.parse_args()
    limit, over = options.hang_timeout_ms, Event()
    with TemporaryDirectory() as folder, ThreadPoolExecutor() as threads:
        bundle = trouble_bundle(Path(folder) / "bundle", write_images(Path(folder) / "images"), ENDLESS)
        with service(bundle, hang_timeout_ms=limit, workers=1, max_batch=8, threads=1) as running:
            with Witnesses(running.url, reference_of(bundle), CLIENTS) as witnesses:
                probing = threads.submit(probe, running, over)
                sleep(1.0)
                white = hang(running.url)
                status = exit_status(running)
                took = monotonic() - white.sent_s
            over.set()
    return judge(Hung(witnesses.account, white, probing.result(), took, status), limit / 1000)


def exit_status(running: Service) -> int | None:
    """How the process ends; None where it does not."""
    try:
        return running.process.wait(_GIVE_UP_S)
    except TimeoutExpired:
        return None


if __name__ == "__main__":
    sys.exit(main())

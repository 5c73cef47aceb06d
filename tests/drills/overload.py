"""A drill: three times as many requests as the service can answer, from clients that wait for less than a second.

    python tests/drills/overload.py                        # a network that mostly waits leaves the cores to the load
    python tests/drills/overload.py --sleep-ms 0           # one that needs every core, as do load and refusals
    python tests/drills/overload.py --sleep-ms 0 --apart   # the same, with load that comes from cores of its own
    python tests/drills/overload.py --fronts 2             # by front processes
    python tests/drills/overload.py --sleep-ms 0 --bundle B --files 'photos/*.jpg'

The peak is that of a closed loop; the overload is a Poisson process. Exit status 1 where fewer than 90 % of the peak
are answered within the clients' patience, more than 1 % of the accepted are late, or memory grows.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

import numpy as np
from drill import DEFAULT_BUNDLE, FOLDER, Service, broken, conclude, errors, p99_ms, service, singles

from oodgate.bench.load import Bounds, arrival_schedule, run_closed, run_open
from oodgate.bench.users import Load, Target

GOOD_SHARE = 0.9
MOST_GROWTH_MIB = 32
EXPECTED = {"429", "504"}
MOST_LATE_SHARE = 0.01
_CLIENTS = (8, 16, 32)
_CONNECTIONS = 2048
_MOST_LATE_S = 0.1


def siblings(core: int) -> str:
    """The threads of the core to which this one belongs, in the words of Linux."""
    return Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list").read_text()


@contextmanager
def cores_of(half: int) -> Iterator[None]:
    """This process, and those that it starts, on one half of the cores; the threads of a core stay together."""
    cores = sorted(os.sched_getaffinity(0), key=lambda core: (siblings(core), core))
    middle = len(cores) // 2
    os.sched_setaffinity(0, cores[middle:] if half else cores[:middle])
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def peak(target: Target, seconds: float) -> float:
    """Good answers in a second of the best closed loop."""
    bounds = Bounds(seconds / len(_CLIENTS), settle_s=1.0)
    return max(run_closed(target, clients, bounds).requests_per_s for clients in _CLIENTS)


def flood(running: Service, target: Target, rate: float, seconds: float) -> tuple[list[Load], list[float]]:
    """Two halves of an overload, and the memory before, between and after."""
    loads, memory = [], [running.rss_mib]
    for half in range(2):
        bounds = Bounds(seconds / 2)
        loads.append(run_open(target, arrival_schedule(rate, bounds, half), _CONNECTIONS, bounds))
        memory.append(running.rss_mib)
    return loads, memory


def goodput(loads: Sequence[Load], patience_s: float) -> float:
    """Answers in a second that came while their client still waited."""
    good = sum(int((load.latencies <= patience_s).sum()) for load in loads)
    return good / sum(load.seconds for load in loads)


def judge(options: argparse.Namespace, best: float, loads: Sequence[Load], memory: Sequence[float]) -> int:
    """The line, and whether all was kept."""
    good, p99, growth = goodput(loads, options.patience / 1000), p99_ms(loads), memory[2] - memory[1]
    found = errors(loads)
    unexpected = {outcome: number for outcome, number in found.items() if outcome not in EXPECTED}
    late = found.get("504", 0) / max(1, found.get("504", 0) + sum(load.completed for load in loads))
    faults = broken(
        (good < GOOD_SHARE * best, f"goodput is {good / best:.0%} of the peak, expected {GOOD_SHARE:.0%}"),
        (p99 > options.patience, f"p99 of the accepted is {p99:.0f} ms, their clients wait {options.patience:g} ms"),
        (late > MOST_LATE_SHARE, f"{late:.1%} of the accepted have no answer in time"),
        (growth > MOST_GROWTH_MIB, f"memory grew by {growth:.0f} MiB from one half to the other"),
        (bool(unexpected), f"unexpected answers: {unexpected}"),
    )
    return conclude(
        f"peak {best:.0f}/s, {offer(loads)}: {good:.0f}/s within {options.patience:g} ms "
        f"({good / best:.0%} of the peak), p99 {p99:.0f} ms, refused or failed {found}, "
        f"resident {' -> '.join(f'{mib:.0f}' for mib in memory)} MiB",
        faults,
    )


def offer(loads: Sequence[Load]) -> str:
    """What was sent, and whether the load generator could do it."""
    late = np.concatenate([load.lateness for load in loads])
    offered = sum(sum(load.outcomes.values()) for load in loads) / sum(load.seconds for load in loads)
    able = late.size > 0 and float(np.percentile(late, 99)) < _MOST_LATE_S
    doubt = "" if able else ", which was late: the overload is less than it says"
    return (
        f"offered {offered:.0f}/s (load generator {np.mean([load.generator_cpu for load in loads]):.2f} cores{doubt})"
    )


def main() -> int:
    """Run the drill against a service of its own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE)
    parser.add_argument("--files", help="folder or pattern of the images to send; generated if not given")
    parser.add_argument("--seconds", type=float, default=20, help="of the overload")
    parser.add_argument("--times", type=float, default=3, help="the peak")
    parser.add_argument("--patience", type=float, default=750, help="milliseconds that a client waits")
    parser.add_argument(
        "--sleep-ms", type=float, default=50, help="what every forward waits; on one worker, 8 at a time"
    )
    parser.add_argument("--apart", action="store_true", help="the service and the load have half of the cores each")
    parser.add_argument("--fronts", type=int, default=0, help="processes that speak HTTP; memory is not theirs")
    options = parser.parse_args()
    settings: dict[str, object] = {"max_batch": 8, "workers": 1, "threads": 1} if options.sleep_ms else {}
    settings["fronts"] = options.fronts
    command = (str(FOLDER / "sleeping.py"),) if options.sleep_ms else ("-m", "oodgate.cli")
    variables = {"DRILL_SLEEP_MS": str(options.sleep_ms)}
    with ExitStack() as stack:
        with cores_of(0) if options.apart else nullcontext():
            running = stack.enter_context(service(options.bundle, command, variables, **settings))
        stack.enter_context(cores_of(1) if options.apart else nullcontext())
        best = peak(Target(running.port, singles(options.bundle, options.files)), options.seconds)
        hurried = singles(options.bundle, options.files, {"X-Request-Timeout-Ms": f"{options.patience:g}"})
        loads, memory = flood(running, Target(running.port, hurried), options.times * best, options.seconds)
    return judge(options, best, loads, memory)


if __name__ == "__main__":
    sys.exit(main())

"""A drill: /metrics is read ten times a second while the service is at its peak.

    python tests/drills/scrape.py --rounds 24 --seconds 1.5

The peak is measured with and without the reader, in many short turns: a machine drifts by more than what is looked
for. Exit status 1 where it costs 5 % or a scrape fails.
"""

import argparse
import asyncio
import sys
from pathlib import Path
from statistics import quantiles

import numpy as np
from drill import DEFAULT_BUNDLE, broken, conclude, errors, get_request, p99_ms, rate, service, singles

from oodgate.bench.load import Bounds, closed_loop, open_loop
from oodgate.bench.users import Load, Target

MOST_COST = 0.05
A_SECOND = 10


async def scrape(port: int, seconds: float) -> Load:
    """Read the metrics at a steady rate."""
    arrivals = np.arange(round(A_SECOND * seconds)) / A_SECOND
    return await open_loop(Target(port, [get_request("/metrics")]), arrivals, 1, Bounds(seconds))


async def play(port: int, target: Target, options: argparse.Namespace) -> tuple[list[Load], list[Load], list[Load]]:
    """Rounds without and with the reader, whose order changes, and the scrapes."""
    without, beside, scrapes = list[Load](), list[Load](), list[Load]()
    await closed_loop(target, options.clients, Bounds(2.0))
    for number in range(options.rounds):
        for reads in (False, True) if number % 2 else (True, False):
            load = closed_loop(target, options.clients, Bounds(options.seconds))
            if reads:
                loaded, scraped = await asyncio.gather(load, scrape(port, options.seconds))
                beside.append(loaded)
                scrapes.append(scraped)
            else:
                without.append(await load)
    return without, beside, scrapes


def judge(without: list[Load], beside: list[Load], scrapes: list[Load], seconds: float) -> int:
    """The line, and whether reading is cheap."""
    costs = [1 - rate([one]) / rate([other]) for one, other in zip(beside, without, strict=True)]
    (low, cost, high), wrong = quantiles(costs), errors([*without, *beside, *scrapes])
    asked = sum(sum(load.outcomes.values()) for load in scrapes)
    faults = broken(
        (cost > MOST_COST, f"reading the metrics costs {cost:.1%}"),
        (bool(wrong), f"unexpected answers: {wrong}"),
        (asked < 0.9 * A_SECOND * seconds * len(scrapes), f"only {asked} scrapes came through"),
    )
    return conclude(
        f"{rate(without):.0f}/s without, {rate(beside):.0f}/s with {A_SECOND} scrapes a second: cost {cost:.1%} "
        f"(half of {len(costs)} rounds from {low:.1%} to {high:.1%}); {asked} scrapes, p99 {p99_ms(scrapes):.0f} ms, "
        f"{sum(errors(scrapes).values())} failed",
        faults,
    )


def main() -> int:
    """Run the drill against a service of its own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=1.5, help="of half a round")
    options = parser.parse_args()
    with service(options.bundle) as running:
        loads = asyncio.run(play(running.port, Target(running.port, singles(options.bundle)), options))
    return judge(*loads, options.seconds)


if __name__ == "__main__":
    sys.exit(main())

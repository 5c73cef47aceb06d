"""A drill: mixed traffic for as long as you like, at a share of what the service can do.

    python tests/drills/soak.py --minutes 30 --share 0.7

Single images, batches, the Open Inference Protocol, damaged files, probes and metrics. Prints its progress to standard
error once a minute. Exit status 1 where memory grows by more than noise in the last two thirds, descriptors stay open,
the last minutes are slower than the first, or an answer has a status that is not expected. The machine may have become
slower, not the service: where the last minutes are, a fresh service takes turns with the old, and has to be as slow in
most of them. A single turn says little: one hiccup of the machine is the p99 of all of it.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
from drill import DEFAULT_BUNDLE, Service, batches, broken, conclude, get_request, p99_ms, service, settled, singles
from scipy.stats import linregress, t

from oodgate.bench.connection import build_request
from oodgate.bench.load import Bounds, Load, arrival_schedule, run_closed, run_open
from oodgate.bench.users import Seconds, Target
from oodgate.bundle import load_bundle

EXPECTED = {"200", "400"}
MOST_TIMES = 1.1
MOST_MB_PER_HOUR = 10.0
"""That a slope may be certain of; less is a matter of hours until the allocator has its level."""
LEFT_OVER = 4
_CONNECTIONS, _CLIENTS = 256, 16
_PART_S = 5.0
_EDGE_MINUTES = 5.0
_CLOSED_AFTER_S = 5.0  # the load's connections, of which the service has to hear


@dataclass(frozen=True)
class Sample:
    """What one part of the traffic came to."""

    end_s: float
    latencies: Seconds
    outcomes: dict[str, int]
    rss_mb: float
    descriptors: int


def mixture(bundle: Path) -> list[bytes]:
    """The requests to send in turn, most of them single images."""
    ones, name = singles(bundle), load_bundle(bundle).manifest.name
    damaged = [
        build_request("/v1/predict", data, {"Content-Type": "image/png"}) for data in (b"\x89PNG\r\n\x1a\n", b"no")
    ]
    rare = [
        *batches(2, 8),
        *(tensor(name, seed) for seed in range(4)),
        *damaged,
        *map(get_request, ("/healthz", "/metrics")),
    ]
    mixed = []
    for number, request in enumerate(rare):
        mixed += [*(ones[(4 * number + offset) % len(ones)] for offset in range(4)), request]
    return mixed


def tensor(name: str, seed: int) -> bytes:
    """A request of the Open Inference Protocol with the pixels of an image."""
    pixels = np.random.default_rng(seed).integers(0, 256, (1, 32, 32, 3))
    data = {"name": "pixels", "datatype": "UINT8", "shape": list(pixels.shape), "data": pixels.ravel().tolist()}
    body = json.dumps({"inputs": [data]}).encode()
    return build_request(f"/v2/models/{name}/infer", body, {"Content-Type": "application/json"})


def capacity(target: Target, seconds: float) -> float:
    """Requests a second of a closed loop, whatever they are answered."""
    load = run_closed(target, _CLIENTS, Bounds(seconds, settle_s=1.0))
    return sum(load.outcomes.values()) / load.seconds


def soak(running: Service, target: Target, rate: float, seconds: float) -> list[Sample]:
    """The traffic in parts, so that each has its latencies and its memory."""
    samples: list[Sample] = []
    start, told = perf_counter(), 0
    while (elapsed := perf_counter() - start) < seconds:
        bounds = Bounds(min(_PART_S, seconds - elapsed))
        load = run_open(target, arrival_schedule(rate, bounds, len(samples)), _CONNECTIONS, bounds)
        end = perf_counter() - start
        samples.append(Sample(end, load.latencies, load.outcomes, 1.048576 * running.rss_mib, running.descriptors))
        if end // 60 > told:
            told = int(end // 60)
            print(f"{told} min: {describe(samples[-12:])}", file=sys.stderr, flush=True)
    return samples


@dataclass(frozen=True)
class Beside:
    """p99 of the old service and of a fresh one, over all turns, and the median of their ratio in a turn."""

    old_ms: float
    fresh_ms: float
    times: float

    def __str__(self) -> str:
        return (
            f"{self.old_ms:.0f} ms beside {self.fresh_ms:.0f} ms of a fresh service, in a turn {self.times:.2f} times"
        )


def beside_a_fresh(old: Target, bundle: Path, rate: float, seconds: float) -> Beside:
    """The old service and one that has just started: for so long each, in turns, of which each begins as many."""
    with service(bundle) as running:
        both = (old, Target(running.port, old.requests))
        capacity(both[1], 10)  # warms up
        loads: tuple[list[Load], list[Load]] = ([], [])
        for turn in range(max(1, round(seconds / _PART_S))):
            for place in (0, 1) if turn % 2 else (1, 0):
                arrivals = arrival_schedule(rate, Bounds(_PART_S), turn)
                loads[place].append(run_open(both[place], arrivals, _CONNECTIONS, Bounds(_PART_S)))
    times = median(p99_ms([aged]) / p99_ms([fresh]) for aged, fresh in zip(*loads, strict=True))
    return Beside(p99_ms(loads[0]), p99_ms(loads[1]), times)


def describe(samples: Sequence[Sample]) -> str:
    """Some samples in a line."""
    last = samples[-1]
    return f"p99 {p99(samples):.0f} ms, {last.rss_mb:.0f} MB, {last.descriptors} descriptors, {statuses(samples)}"


def p99(samples: Sequence[Sample]) -> float:
    """Of all good answers, in milliseconds."""
    return 1000 * float(np.percentile(np.concatenate([sample.latencies for sample in samples]), 99))


def statuses(samples: Sequence[Sample]) -> dict[str, int]:
    """How often each outcome came."""
    return dict(sorted(sum((Counter(sample.outcomes) for sample in samples), Counter()).items()))


def slope(samples: Sequence[Sample]) -> tuple[float, float]:
    """Memory by time in MB an hour over the last two thirds, and half of its 95 % confidence interval.

    Neighbours are alike, and the interval takes so many fewer samples as there are.
    """
    kept = samples[len(samples) // 3 :]
    hours, memory = np.array([one.end_s / 3600 for one in kept]), np.array([one.rss_mb for one in kept])
    if len(kept) < 4:
        return 0.0, float("inf")
    line = linregress(hours, memory)
    left = memory - line.intercept - line.slope * hours
    alike = float(np.corrcoef(left[:-1], left[1:])[0, 1]) if left.std() > 0 else 0.0
    alike = min(max(alike, 0.0), 0.99) if np.isfinite(alike) else 0.0
    effective = max(3.0, len(kept) * (1 - alike) / (1 + alike))
    widened = line.stderr * (max(len(kept) - 2, 1) / max(effective - 2, 1)) ** 0.5
    return float(line.slope), float(widened * t.ppf(0.975, max(effective - 2, 1)))


def edge_s(samples: Sequence[Sample]) -> float:
    """How long the first and the last minutes are: five, or a third of a short run."""
    return min(60 * _EDGE_MINUTES, samples[-1].end_s / 3)


def edges(samples: Sequence[Sample]) -> tuple[float, float]:
    """p99 of the first and of the last minutes."""
    total, length = samples[-1].end_s, edge_s(samples)
    first = [one for one in samples if one.end_s <= length] or samples[:1]
    return p99(first), p99([one for one in samples if one.end_s > total - length])


def judge(samples: Sequence[Sample], before: int, after: int, rate: float, beside: Beside | None) -> int:
    """The line, and whether the service stayed as it was; a fresh one beside it excuses a slow machine."""
    (per_hour, half), (first, last), found = slope(samples), edges(samples), statuses(samples)
    unexpected, least = {status: number for status, number in found.items() if status not in EXPECTED}, per_hour - half
    faults = broken(
        (least > MOST_MB_PER_HOUR, f"memory grows by {per_hour:.1f} MB/h, at least {least:.1f}"),
        (after > before + LEFT_OVER, f"{after} descriptors are open afterwards, there were {before}"),
        (
            last > MOST_TIMES * first and (beside is None or beside.times > MOST_TIMES),
            f"p99 went from {first:.0f} to {last:.0f} ms, and a fresh service is faster",
        ),
        (bool(unexpected), f"unexpected answers: {unexpected}"),
    )
    return conclude(
        f"{sum(found.values())} requests in {samples[-1].end_s / 60:.1f} min at {rate:.0f}/s: {found}; "
        f"p99 {first:.0f} -> {last:.0f} ms"
        + (f" (then {beside})" if beside else "")
        + f", {samples[0].rss_mb:.0f} -> {samples[-1].rss_mb:.0f} MB, "
        f"{per_hour:+.1f} +- {half:.1f} MB/h, descriptors {before} -> {after}",
        faults,
    )


def main() -> int:
    """Run the drill against a service of its own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--share", type=float, default=0.7, help="of the measured capacity")
    options = parser.parse_args()
    with service(options.bundle) as running:
        before, target = running.descriptors, Target(running.port, mixture(options.bundle))
        rate = options.share * capacity(target, 10)
        soak(running, target, rate, 10)  # warms up
        samples = soak(running, target, rate, 60 * options.minutes)
        after = round(settled(lambda: running.descriptors, before + LEFT_OVER, _CLOSED_AFTER_S))
        first, last = edges(samples)
        slower = last > MOST_TIMES * first
        beside = beside_a_fresh(target, options.bundle, rate, edge_s(samples)) if slower else None
    return judge(samples, before, after, rate, beside)


if __name__ == "__main__":
    sys.exit(main())

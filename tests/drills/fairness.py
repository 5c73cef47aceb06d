"""A drill: a client that sends batches of 64 images back to back beside clients that send one image at a time.

    python tests/drills/fairness.py --batch-clients 1 --clients 16

The single images are timed with and without the batches, in turn. Exit status 1 where the batches make their p99 too
many times as long, or leave them less than their share of the images.
"""

import argparse
import asyncio
import sys
from dataclasses import dataclass, field
from pathlib import Path

from drill import DEFAULT_BUNDLE, batches, broken, conclude, errors, p99_ms, rate, service, singles

from oodgate.bench.load import Bounds, closed_loop
from oodgate.bench.users import Load, Target

MOST_TIMES = 6.0
"""A single image waits for the batch at work and shares the next with a few of the others; in one queue it would wait
for all 64 of them."""
LEAST_SHARE = 0.8
"""Of half of the images, or of what the single clients take when they are alone, whichever is less."""


@dataclass
class Rounds:
    """The single clients alone and in company, and the batches."""

    alone: list[Load] = field(default_factory=list)
    together: list[Load] = field(default_factory=list)
    batches: list[Load] = field(default_factory=list)


async def play(one: Target, many: Target, options: argparse.Namespace) -> Rounds:
    """All rounds, after one that only warms up."""
    rounds, seconds = Rounds(), options.seconds
    await asyncio.gather(
        closed_loop(one, options.clients, Bounds(2.0)), closed_loop(many, options.batch_clients, Bounds(2.0))
    )
    for _ in range(options.rounds):
        rounds.alone.append(await closed_loop(one, options.clients, Bounds(seconds)))
        together, batch = await asyncio.gather(
            closed_loop(one, options.clients, Bounds(seconds)),
            closed_loop(many, options.batch_clients, Bounds(seconds)),
        )
        rounds.together.append(together)
        rounds.batches.append(batch)
    return rounds


def judge(rounds: Rounds, images: int) -> int:
    """The line, and whether the single clients were treated well."""
    times, of_batches = p99_ms(rounds.together) / p99_ms(rounds.alone), images * rate(rounds.batches)
    alone, together = rate(rounds.alone), rate(rounds.together)
    due, wrong = min(alone, (together + of_batches) / 2), errors([*rounds.alone, *rounds.together, *rounds.batches])
    faults = broken(
        (times > MOST_TIMES, f"p99 is {times:.1f} times as long with the batches, expected {MOST_TIMES:g} at most"),
        (together < LEAST_SHARE * due, f"{together:.0f} single images/s, expected {LEAST_SHARE:.0%} of {due:.0f}"),
        (bool(wrong), f"unexpected answers: {wrong}"),
    )
    return conclude(
        f"single images alone {alone:.0f}/s, p99 {p99_ms(rounds.alone):.0f} ms; beside {of_batches:.0f} images/s in "
        f"batches of {images} {together:.0f}/s ({together / (together + of_batches):.0%} of all), "
        f"p99 {p99_ms(rounds.together):.0f} ms ({times:.1f} times as long)",
        faults,
    )


def main() -> int:
    """Run the drill against a service of its own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE)
    parser.add_argument(
        "--clients", type=int, default=16, help="so many that some always wait: a share is due to these"
    )
    parser.add_argument("--batch-clients", type=int, default=1)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="of half a round")
    options = parser.parse_args()
    with service(options.bundle) as running:
        one, many = Target(running.port, singles(options.bundle)), Target(running.port, batches(4, options.images))
        return judge(asyncio.run(play(one, many, options)), options.images)


if __name__ == "__main__":
    sys.exit(main())

"""Compare servers on the same jobs, alternating between them.

python benchmarks/run.py --peers fastapi,litserve,oodgate --clients 1,8,32,64 --rounds 3 --out benchmarks/results
"""

from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from catalogue import PEERS
from jobs import JOBS, Job, Where
from rich.console import Console
from summary import OWN, Comparison, save, table
from trial import Row, Trial, interpreter, run_trial

from oodgate.bench.command import parse_clients
from oodgate.engines import DTYPES
from oodgate.errors import SetupError

ATTEMPTS = 3

console = Console(stderr=True)


def parse() -> Namespace:
    """The options."""
    parser = ArgumentParser(description=__doc__.splitlines()[0], formatter_class=ArgumentDefaultsHelpFormatter)
    parser.add_argument("--peers", type=_names(PEERS), default=list(PEERS), help="servers, separated by commas")
    parser.add_argument(
        "--jobs", type=_names(JOBS), default=["photograph", "thumbnail"], help="jobs, separated by commas"
    )
    parser.add_argument("--clients", default="1,8,32,64", help="numbers, separated by commas")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where the networks run")
    parser.add_argument("--precision", choices=list(DTYPES), default="float32", help="number format of the networks")
    parser.add_argument("--rounds", type=int, default=3, help="medians of so many")
    parser.add_argument("--duration", type=float, default=5.0, help="seconds of each load")
    parser.add_argument("--env", type=Path, default=Path("benchmarks/environments"), help="made by make_env.sh")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder of table and plot")
    return parser.parse_args()


def _names(known: Iterable[str]) -> Callable[[str], list[str]]:
    def names(text: str) -> list[str]:
        if unknown := set(text.split(",")) - set(known):
            raise ValueError(f"unknown: {', '.join(unknown)}")
        return text.split(",")

    return names


def order(peers: Sequence[str], turn: int) -> list[str]:
    """Forwards and backwards in turn, so that a drift of the machine favours nobody."""
    return list(peers) if turn % 2 == 0 else list(reversed(peers))


def compare(job: Job, options: Namespace) -> Comparison:
    """All rounds of one job; a server that does not start is left out from then on."""
    rows: list[Row] = []
    missing: dict[str, str] = {}
    classes: dict[str, tuple[int, ...]] = {}
    for turn in range(options.rounds):
        for name in order(options.peers, turn):
            if name in missing:
                continue
            console.print(f"{job.title}, round {turn + 1} of {options.rounds}: {name}")
            try:
                trial = _trial(name, job, options)
            except SetupError as error:
                missing[name] = str(error)
                console.print(f"{name}: {error}", style="yellow", markup=False)
                continue
            rows += trial.rows
            classes[name] = trial.classes
    return Comparison(job.title, tuple(rows), missing, agreement(classes))


def _trial(name: str, job: Job, options: Namespace) -> Trial:
    """Some servers fail to start now and then where the machine is busy; the last failure is raised."""
    python, clients = interpreter(name, options.env), parse_clients(options.clients)
    for _ in range(ATTEMPTS - 1):
        with suppress(SetupError):
            return run_trial(name, job, python, clients, options.duration)
    return run_trial(name, job, python, clients, options.duration)


def agreement(classes: dict[str, tuple[int, ...]]) -> dict[str, str]:
    """For how many files each server names the class that oodgate names."""
    own = classes.get(OWN, ())
    others = {name: found for name, found in classes.items() if name != OWN and own}
    return {
        name: f"{sum(a == b for a, b in zip(found, own, strict=True))} of {len(own)} files"
        for name, found in others.items()
    }


def main() -> None:
    """Run with the options of the command."""
    options = parse()
    try:
        run(options)
    except SetupError as error:
        raise SystemExit(f"run.py: {error}") from error


def run(options: Namespace) -> None:
    """Do all jobs and write the results."""
    with TemporaryDirectory() as folder:
        where = Where(options.device, options.precision)
        comparisons = [compare(JOBS[name](Path(folder), where), options) for name in options.jobs]
    save(comparisons, options.out)
    for comparison in comparisons:
        Console().print(table(comparison))
    console.print(f"results.json, results.md and results.png are in {options.out}")


if __name__ == "__main__":
    main()

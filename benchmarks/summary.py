"""Rows of all rounds -> medians, the table and the plot."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table
from trial import Row

OWN_COLOUR, OWN = "#d55e00", "oodgate"
COLOURS = ("#0072b2", "#009e73", "#cc79a7", "#e69f00", "#882255", "#555555", "#56b4e9")
HEAD = ("server", "clients", "requests/s", "p50 ms", "p99 ms", "errors", "CPU", "MB")


@dataclass(frozen=True)
class Comparison:
    """One job: every row, why servers are missing, and for how many files each named oodgate's class."""

    title: str
    rows: tuple[Row, ...]
    missing: Mapping[str, str]
    agreement: Mapping[str, str]

    def medians(self) -> list[Row]:
        """One row for each server and number of clients, in the order of the first round."""
        groups: dict[tuple[str, int], list[Row]] = {}
        for row in self.rows:
            groups.setdefault((row.peer, row.clients), []).append(row)
        return [median_row(group) for group in groups.values()]


def median_row(rows: Sequence[Row]) -> Row:
    """The medians of what was measured and the sums of the errors."""
    errors: dict[str, int] = {}
    for row in rows:
        for outcome, number in row.errors.items():
            errors[outcome] = errors.get(outcome, 0) + number
    names = ("requests_per_s", "p50_ms", "p99_ms", "cpu", "rss_mb")
    values = {name: [getattr(row, name) for row in rows if getattr(row, name) is not None] for name in names}
    measured = {name: median(found) if found else None for name, found in values.items()}
    return Row(peer=rows[0].peer, clients=rows[0].clients, errors=errors, **measured)


def cells(row: Row) -> tuple[str, ...]:
    """A line of the table."""
    errors = ", ".join(f"{number} x {outcome}" for outcome, number in sorted(row.errors.items())) or "none"
    numbers = ((row.requests_per_s, 1), (row.p50_ms, 1), (row.p99_ms, 1), (row.cpu, 2), (row.rss_mb, 0))
    shown = ["-" if value is None else f"{value:.{digits}f}" for value, digits in numbers]
    return (row.peer, str(row.clients), *shown[:3], errors, *shown[3:])


def table(comparison: Comparison) -> Table:
    """For a terminal."""
    shown = Table(*HEAD, title=comparison.title)
    for row in comparison.medians():
        shown.add_row(*cells(row))
    return shown


def markdown(comparison: Comparison) -> str:
    """For a document."""
    lines = [f"## {comparison.title}", "", f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    lines += [f"| {' | '.join(cells(row))} |" for row in comparison.medians()]
    lines += ["", *(f"- {name} names oodgate's class for {share}" for name, share in comparison.agreement.items())]
    lines += [f"- {name} is missing: {reason}" for name, reason in comparison.missing.items()]
    return "\n".join([*lines, ""])


def plot(comparisons: Sequence[Comparison]) -> Figure:
    """Throughput and tail latency against clients, a row of two for each job."""
    figure = Figure((9, 3.6 * len(comparisons)), layout="constrained")
    axes = figure.subplots(len(comparisons), 2, squeeze=False)
    for (left, right), comparison in zip(axes, comparisons, strict=True):
        _plot(left, comparison, "requests_per_s", "requests/s")
        _plot(right, comparison, "p99_ms", "p99, ms")
        right.set_yscale("log")
        left.set_title(comparison.title, loc="left")
        left.set_ylim(bottom=0)
        left.legend(frameon=False, fontsize="small")
    return figure


def save(comparisons: Sequence[Comparison], folder: Path) -> None:
    """results.json with every round, results.md, results.png."""
    folder.mkdir(parents=True, exist_ok=True)
    record = [
        asdict(comparison) | {"medians": [asdict(row) for row in comparison.medians()]} for comparison in comparisons
    ]
    (folder / "results.json").write_text(json.dumps(record, indent=1) + "\n")
    (folder / "results.md").write_text("\n".join(markdown(comparison) for comparison in comparisons))
    plot(comparisons).savefig(folder / "results.png", dpi=130)


def _plot(axes: Axes, comparison: Comparison, name: str, label: str) -> None:
    rows = comparison.medians()
    peers = list(dict.fromkeys(row.peer for row in rows))
    others = iter(COLOURS)
    for peer in sorted(peers):
        points = [(row.clients, getattr(row, name)) for row in rows if row.peer == peer]
        own = peer == OWN
        colour = OWN_COLOUR if own else next(others)
        axes.plot(*zip(*points, strict=True), "o-", color=colour, linewidth=2.5 if own else 1.2, label=peer)
    clients = sorted({row.clients for row in rows})
    axes.set_xscale("log")
    axes.set_xticks(clients, [str(number) for number in clients])
    axes.xaxis.minorticks_off()
    axes.set_xlabel("clients")
    axes.set_ylabel(label)

"""Measurements -> what a terminal shows."""

from collections.abc import Iterator, Sequence
from statistics import median

from rich.console import RenderableType
from rich.table import Table

from oodgate.bench.gate_alone import GateAlone
from oodgate.bench.growth import Growth
from oodgate.bench.limit import Limit
from oodgate.bench.overhead import Overhead
from oodgate.bench.scores import Costs
from oodgate.bench.scoring import Scoring
from oodgate.bench.served import Row
from oodgate.bench.service import Report
from oodgate.rates import Way


def tables_of_service(report: Report) -> Iterator[RenderableType]:
    """The loads from outside and inside, and the limit."""
    yield f"{report.bundle} on {report.cores} cores, {report.files} files of {report.mean_bytes / 1000:.1f} KB"
    median = report.median
    yield loads(median.rows)
    yield insides(median.rows)
    yield limit(median.limit)
    ratios = ", ".join(f"{one.ratio:.1%}" for one in report.rounds)
    yield (
        f"reached {median.reached:.1f} of {median.limit.images_per_s:.1f} images/s: {median.ratio:.1%} of the limit, "
        f"the median of {ratios}"
    )


def tables_of_overhead(overhead: Overhead) -> Iterator[RenderableType]:
    """The two loads of a service that does nothing."""
    yield loads(overhead.rows)


def tables_of_gate(alone: GateAlone) -> Iterator[RenderableType]:
    """The bare forward and the gate."""
    table = numbers_table("alone", "how", "images/s", caption=f"in {alone.precision} on {alone.device}")
    for name, part in (("forward", alone.forward), ("gate", alone.gate)):
        table.add_row(name, _how(part.way, part.batch), _number(median(part.images_per_s), 1))
    yield table
    rounds = len(alone.gate.images_per_s)
    yield f"the gate reaches {alone.ratio:.1%} of the forward: the median of {rounds} rounds"


def tables_of_growth(growth: Growth) -> Iterator[RenderableType]:
    """A table for each curve."""
    for name, points in (
        ("clients", growth.clients),
        ("megapixels", growth.megapixels),
        ("limit of a batch", growth.max_batch),
        ("fronts", growth.fronts),
    ):
        table = numbers_table(name, "requests/s", "p50 ms", "p99 ms", "errors")
        for point in points:
            row = point.row
            seen = (_number(number, 1) for number in (row.requests_per_s, row.p50_ms, row.p99_ms))
            table.add_row(f"{point.value:g}", *seen, _errors(row))
        yield table


def tables_of_scores(costs: Costs) -> Iterator[RenderableType]:
    """What every score costs."""
    yield f"forward of {costs.images} images on {costs.device}: {costs.forward_ms:.2f} ms"
    table = numbers_table("scorer", "ms", "% of the forward")
    for row in costs.scores:
        table.add_row(row.scorer, f"{row.score_ms:.3f}", f"{row.share:.2f}")
    yield table


def tables_of_scoring(scoring: Scoring) -> Iterator[RenderableType]:
    """Both services, and the ratio."""
    for name, rows in (("with scores", scoring.scoring), ("classes only", scoring.classifying)):
        yield name
        yield loads(rows)
    yield f"with scores {scoring.ratio:.1%} of the requests/s without: the median of {len(scoring.scoring)} rounds"


def loads(rows: Sequence[Row]) -> Table:
    """What the clients saw."""
    table = numbers_table("clients", "requests/s", "p50 ms", "p95 ms", "p99 ms", "errors")
    for row in rows:
        latencies = (row.p50_ms, row.p95_ms, row.p99_ms)
        table.add_row(_load(row), _number(row.requests_per_s, 1), *(_number(ms, 2) for ms in latencies), _errors(row))
    return table


def insides(rows: Sequence[Row]) -> Table:
    """Where the time went in the service, and what it used."""
    table = numbers_table("clients", "batch", "decode", "queue", "forward", "score", "CPU", "MB", "load")
    table.caption = (
        "means: images a batch, ms of a stage as an image sees it; cores and MB of the service; cores of the load"
    )
    for row in rows:
        stages = (_number(ms, 2) for ms in row.inside.stages_ms.values())
        used = (_number(row.server_cpu, 2), _number(row.server_rss_mb, 0), _number(row.generator_cpu, 2))
        table.add_row(_load(row), _number(row.inside.batch, 1), *stages, *used)
    return table


def limit(found: Limit) -> Table:
    """The parts alone."""
    table = numbers_table("alone", "how", "images/s", caption=f"limit on {found.device}")
    table.add_row("decode", f"{found.decode_threads} threads", _number(found.decode_per_s, 1))
    table.add_row("forward", _how(found.way, found.batch), _number(found.forward_per_s, 1))
    table.add_row("both", "", _number(found.images_per_s, 1))
    return table


def numbers_table(first: str, *others: str, caption: str | None = None) -> Table:
    """A table whose columns are numbers but for the first."""
    table = Table(first, caption=caption)
    for name in others:
        table.add_column(name, justify="right")
    return table


def _how(way: Way, batch: int) -> str:
    threads = f" x {way.threads} threads" if way.threads else " at a time"
    return f"batch {batch}, {way.workers}{threads}{f', {way.acceleration}' if way.how.accelerated else ''}"


def _load(row: Row) -> str:
    return str(row.clients) if row.clients is not None else f"at {row.rate:.0f}/s"


def _errors(row: Row) -> str:
    return ", ".join(f"{number} x {outcome}" for outcome, number in sorted(row.errors.items())) or "none"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"

"""The plot of growth: one column for what is varied, throughput above, latency below."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from oodgate.bench.growth import Growth, Point

_COLUMN_INCHES, _HEIGHT_INCHES = 3.6, 5.4
_MEDIAN_COLOUR, _TAIL_COLOUR = "#0072b2", "#d55e00"


def plot_growth(growth: "Growth") -> Figure:
    """All curves of a measurement of growth."""
    curves = {
        "clients": growth.clients,
        "image size, Mpx": growth.megapixels,
        "limit of a batch, images": growth.max_batch,
        "front processes": growth.fronts,
    }
    figure = Figure((_COLUMN_INCHES * len(curves), _HEIGHT_INCHES), layout="constrained")
    axes = figure.subplots(2, len(curves), squeeze=False, sharey="row")
    for column, (label, points) in enumerate(curves.items()):
        _plot_throughput(axes[0, column], points)
        _plot_latency(axes[1, column], points)
        axes[1, column].set_xlabel(label)
        for axis in axes[:, column]:
            _name_values(axis, points)
    axes[0, 0].set_ylabel("requests/s")
    axes[1, 0].set_ylabel("latency, ms")
    axes[1, 0].legend(frameon=False)
    return figure


def _plot_throughput(axes: Axes, points: "Sequence[Point]") -> None:
    values = [point.value for point in points]
    axes.plot(values, [point.row.requests_per_s for point in points], "o-", color=_MEDIAN_COLOUR)
    axes.set_ylim(bottom=0)


def _plot_latency(axes: Axes, points: "Sequence[Point]") -> None:
    values = [point.value for point in points]
    medians = [float("nan") if point.row.p50_ms is None else point.row.p50_ms for point in points]
    tails = [float("nan") if point.row.p99_ms is None else point.row.p99_ms for point in points]
    axes.plot(values, medians, "o-", color=_MEDIAN_COLOUR, label="p50")
    axes.plot(values, tails, "o--", color=_TAIL_COLOUR, label="p99")
    axes.set_yscale("log")


def _name_values(axes: Axes, points: "Sequence[Point]") -> None:
    if points[0].value:  # a logarithmic scale has no place for none
        axes.set_xscale("log")
    axes.set_xticks([point.value for point in points], [_short(point.value) for point in points], fontsize="small")
    axes.xaxis.minorticks_off()


def _short(value: float) -> str:
    return f"{value:.1g}" if value < 0.1 else f"{value:.3g}" if float(value).is_integer() else f"{value:.2g}"

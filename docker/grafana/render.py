"""The main panels of the dashboard as a picture, drawn by matplotlib from a running Prometheus; not by Grafana.

python docker/grafana/render.py --from 2026-01-01T12:00:00Z --minutes 10 --out docs/dashboard.png
"""

import argparse
import json
import re
import time
import urllib.parse
import urllib.request
from datetime import datetime
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

DASHBOARD = Path(__file__).parent / "dashboards" / "oodgate.json"
VARIABLES = {"$model": ".*", "$version": ".*", "$instance": ".*", "$__rate_interval": "30s", "$__interval": "5s"}
SHOWN = (
    *("OOD ratio against calibrated", "Accepted and rejected", "Rejected by predicted class"),
    *("p-values", "p-value quantiles", "Score against threshold"),
    *("Evidence (log10)", "Alarm", "Kind of drift"),
    *("Time of a request", "Time of a stage, 95 %", "Images in a forward"),
)
COLUMNS = 3
STEP_S = 5.0
CAPTION = "Minutes. Queries of docker/grafana/dashboards/oodgate.json, drawn by matplotlib without Grafana."

Series = tuple[str, list[float], list[float]]


def ask(prometheus: str, query: str, start: float, end: float) -> list[dict[str, Any]]:
    """The series that a query gives over a span of time."""
    for variable, value in VARIABLES.items():
        query = query.replace(variable, value)
    parameters = urllib.parse.urlencode({"query": query, "start": start, "end": end, "step": STEP_S})
    with urllib.request.urlopen(f"{prometheus}/api/v1/query_range?{parameters}", timeout=30) as answer:  # noqa: S310
        result: list[dict[str, Any]] = json.load(answer)["data"]["result"]
    return result


def read_series(prometheus: str, target: dict[str, Any], start: float, end: float) -> list[Series]:
    """Legend, times in minutes since the start, and values of each series of a target."""
    found = []
    for series in ask(prometheus, target["expr"], start, end):
        labels = series["metric"]
        legend = target["legendFormat"]
        for name in re.findall(r"{{(\w+)}}", legend):
            legend = legend.replace(f"{{{{{name}}}}}", labels.get(name, ""))
        times = [(at - start) / 60 for at, _ in series["values"]]
        found.append((legend, times, [float(value) for _, value in series["values"]]))
    return found


def draw_lines(axes: Axes, panel: dict[str, Any], series: list[Series]) -> None:
    """A panel of lines."""
    for legend, times, values in series:
        axes.plot(times, values, label=legend, linewidth=1.4)
    defaults = panel["fieldConfig"]["defaults"]
    axes.set_ylim(bottom=defaults.get("min", min(0, axes.get_ylim()[0])))
    if "max" in defaults:
        axes.set_ylim(top=defaults["max"] * 1.03)
    if defaults.get("unit") == "percentunit":
        axes.yaxis.set_major_formatter(PercentFormatter(1))
    if defaults.get("unit") == "s":
        axes.set_ylabel("s")
    if series:
        axes.legend(fontsize=6, loc="best", ncols=1 if len(series) < 6 else 2, framealpha=0.8, edgecolor="none")


def draw_heatmap(axes: Axes, series: list[Series]) -> None:
    """Cumulative buckets by `le` as cells of one colour scale."""
    buckets = sorted(((float(legend), times, values) for legend, times, values in series), key=lambda row: row[0])
    counts = np.diff([values for _, _, values in buckets], axis=0, prepend=0)
    finite = [row for row in buckets if np.isfinite(row[0])]
    edges = [0.0, *(edge for edge, _, _ in finite)]
    times = buckets[0][1]
    mesh = axes.pcolormesh([*times, times[-1] + STEP_S / 60], range(len(edges)), counts[: len(finite)], cmap="Oranges")
    axes.set_yticks(range(len(edges)), [f"{edge:g}" for edge in edges], fontsize=5)
    axes.figure.colorbar(mesh, cax=axes.inset_axes((1.01, 0, 0.015, 1))).ax.tick_params(labelsize=5)


def draw(prometheus: str, start: float, end: float) -> Figure:
    """The panels of SHOWN, in their order."""
    panels = {panel["title"]: panel for panel in json.loads(DASHBOARD.read_text())["panels"]}
    rows = -(-len(SHOWN) // COLUMNS)
    figure = Figure(figsize=(15, 2.7 * rows), layout="constrained")
    for title, axes in zip(SHOWN, figure.subplots(rows, COLUMNS).flat, strict=True):
        series = [row for target in panels[title]["targets"] for row in read_series(prometheus, target, start, end)]
        if panels[title]["type"] == "heatmap":
            draw_heatmap(axes, series)
        else:
            draw_lines(axes, panels[title], series)
        axes.set_title(title, fontsize=9, loc="left")
        axes.tick_params(labelsize=6)
        axes.grid(alpha=0.3)
        axes.set_xlim(0, (end - start) / 60)
    figure.supxlabel(CAPTION, fontsize=8)
    return figure


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090")
    parser.add_argument("--from", dest="start", type=datetime.fromisoformat, help="UTC; --minutes ago if not given")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--out", type=Path, default=Path("docs/dashboard.png"))
    options = parser.parse_args()
    start = options.start.timestamp() if options.start else time.time() - 60 * options.minutes
    mpl.rcParams["axes.spines.top"] = mpl.rcParams["axes.spines.right"] = False
    draw(options.prometheus, start, start + 60 * options.minutes).savefig(options.out, dpi=90)


if __name__ == "__main__":
    main()

"""The plots of the evaluation report: arrays in, a matplotlib Figure out.

Nothing here uses pyplot or leaves a global setting changed. Scores are higher for in-distribution images.
"""

from base64 import b64encode
from collections.abc import Iterable, Mapping
from io import BytesIO

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray
from PIL import Image
from scipy.optimize import isotonic_regression
from sklearn.metrics import roc_curve

Floats = NDArray[np.floating]

KNOWN_COLOUR = "#0072b2"
# Okabe and Ito's palette, then Tol's: told apart by the colour-blind, and dark enough for lines on white.
STRANGE_COLOURS = ("#d55e00", "#009e73", "#cc79a7", "#e69f00", "#882255", "#999933", "#555555", "#332288")
INK, GREY, PALE = "#1f2328", "#8b949e", "#c9ced6"
WIDTH = 5.4  # inches at 100 pixels each: half of the page
BINS = 50
SETTINGS = {
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.titlesize": 9.0,
    "axes.titlelocation": "left",
    "xtick.color": "#57606a",
    "ytick.color": "#57606a",
    "text.color": INK,
    "legend.frameon": False,
    "figure.constrained_layout.w_pad": 0.12,
    "figure.constrained_layout.h_pad": 0.1,
    "lines.linewidth": 1.6,
}
# From matplotlib's own defaults, so that a person's matplotlibrc does not change the bytes.
_styled = style.context(["default", SETTINGS])


def set_colours(known: str, strange: Iterable[str]) -> dict[str, str]:
    """The colour of every set by name; one set keeps its colour in all plots."""
    colours = {name: STRANGE_COLOURS[row % len(STRANGE_COLOURS)] for row, name in enumerate(strange)}
    return {**colours, known: KNOWN_COLOUR}


@_styled
def encode_figure(figure: Figure) -> str:
    """The figure as a data URI of a PNG with twice the density of a screen; equal figures give equal bytes."""
    drawn, buffer = BytesIO(), BytesIO()
    figure.savefig(drawn, format="png", dpi=200)
    # 256 colours are enough for flat ones; they take a third of the bytes, and less than an SVG of the same plot.
    Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{b64encode(buffer.getvalue()).decode()}"


@_styled
def plot_scores(known: Floats, strange: Mapping[str, Floats], threshold: float, colours: Mapping[str, str]) -> Figure:
    """Histograms of in-distribution scores against each strange set, one row a set, with the threshold."""
    figure = _figure(height=0.9 + 0.85 * len(strange))
    rows = figure.subplots(len(strange), sharex=True, squeeze=False)[:, 0]
    edges = _score_edges([known, *strange.values()], threshold)
    for axes, (name, scores) in zip(rows, strange.items(), strict=True):
        axes.stairs(_shares(known, edges), edges, fill=True, color=KNOWN_COLOUR, alpha=0.25)
        axes.stairs(_shares(scores, edges), edges, color=colours[name], linewidth=1.6)
        axes.axvline(threshold, color=INK, linewidth=1, linestyle=(0, (4, 2)))
        accepted = float((scores >= threshold).mean())
        axes.text(0, 0.96, _plain(name), color=_dark(colours[name]), weight="bold", transform=axes.transAxes, va="top")
        axes.text(1, 0.96, f"{accepted:.1%} accepted", transform=axes.transAxes, va="top", ha="right")
        axes.spines.left.set_visible(False)
        axes.set(yticks=[], ylim=(0, axes.get_ylim()[1] * 1.25), xlim=(edges[0], edges[-1]))
    rows[0].set_title("In-distribution (filled)", color=_dark(KNOWN_COLOUR), weight="bold")
    rows[0].set_title(f"threshold {threshold:.4g}: rejected on its left", loc="right")
    rows[-1].set_xlabel("score, higher is more in-distribution")
    return figure


@_styled
def plot_roc(known: Floats, strange: Mapping[str, Floats], colours: Mapping[str, str]) -> Figure:
    """ROC curves with in-distribution as the positive class, FPR95 marked on each."""
    figure = _figure(height=4.6)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=PALE, linewidth=1, zorder=0)
    axes.axhline(0.95, color=GREY, linewidth=1, linestyle=(0, (1, 2)), zorder=0)
    axes.set_title("dotted: 95 % of in-distribution images accepted")
    handles = []
    for name, scores in strange.items():
        positive = np.repeat([1, 0], [len(known), len(scores)])
        wrong, kept, _ = roc_curve(positive, np.concatenate([known, scores]), drop_intermediate=False)
        at = int(np.searchsorted(kept, 0.95))
        label = f"{_plain(name)}, FPR95 {wrong[at]:.1%}"
        handles += axes.plot(wrong, kept, color=colours[name], label=label)
        axes.plot(wrong[at], kept[at], "o", color=colours[name], markeredgecolor="white", markersize=7)
    axes.legend(handles=handles, loc="lower right")
    axes.set(xlim=(-0.01, 1.01), ylim=(0, 1.01), aspect="equal")
    axes.set(xlabel="share of strange images accepted", ylabel="share of in-distribution images accepted")
    _percent(axes)
    return figure


@_styled
def plot_channels(channels: Mapping[str, Floats], known: str, colours: Mapping[str, str]) -> Figure:
    """Mean against maximum (M, 2) of channels, in-distribution beside each strange set; the lines are medians."""
    strange = [name for name in channels if name != known]
    lines = -(-len(strange) // 4)
    columns = -(-len(strange) // lines)
    figure = _figure(width=2 * WIDTH if columns > 1 else WIDTH, height=3.5 * lines)
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    right, top = np.quantile(np.concatenate(list(channels.values())), 0.997, axis=0)
    for axes, name in zip(grid.flat, strange, strict=False):
        for group in (known, name):
            axes.scatter(*channels[group].T, s=5, alpha=0.25, color=colours[group], linewidths=0)
        for group in (known, name):
            axes.plot(*_median_line(channels[group]), color="white", linewidth=4)
            axes.plot(*_median_line(channels[group]), color=_dark(colours[group]), linewidth=2)
        axes.set_title(_plain(name), color=_dark(colours[name]), weight="bold")
        label = axes.text(
            right, 0, "in-distribution ", color=_dark(KNOWN_COLOUR), weight="bold", ha="right", va="bottom"
        )
        label.set_bbox({"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 2})
        axes.set(xlim=(0, right), ylim=(0, top), xlabel="mean of the channel")
    for axes in grid.flat[len(strange) :]:
        axes.set_axis_off()
    for axes in grid[:, 0]:
        axes.set_ylabel("maximum of the channel")
    return figure


@_styled
def plot_sensitivity(
    grid: Floats, fpr95: Mapping[str, Floats], w: float | None, ends: tuple[str, str], colours: Mapping[str, str]
) -> Figure:
    """FPR95 (G,) of each set in percent over the weights `grid` (G,); `ends` name the scores at w = 0 and 1."""
    figure = _figure(height=3.5)
    axes = figure.subplots()
    for name, values in fpr95.items():
        axes.plot(grid, values, color=colours[name])
    top = 1.08 * max(float(values.max()) for values in fpr95.values()) or 1.0
    for name, height in _spread({name: float(values[-1]) for name, values in fpr95.items()}, top / 19, top).items():
        label = f"  {_plain(name, longest=16)}"
        axes.text(float(grid[-1]), height, label, color=_dark(colours[name]), weight="bold", va="center")
    if w is not None:
        axes.axvline(w, color=INK, linewidth=1, linestyle=(0, (4, 2)))
        axes.set_title(f"w = {w:.3g} (dashed)")
    axes.set(xlim=(grid[0], grid[-1]), ylim=(0, top), ylabel="FPR95, lower is better")
    axes.set_xlabel(f"weight w: at 0 {ends[0]} alone, at 1 {ends[1]} alone")
    axes.yaxis.set_major_formatter(PercentFormatter(100, decimals=0))
    return figure


@_styled
def plot_p_values(p_values: Floats, alpha: float) -> Figure:
    """Share of in-distribution p-values at or below x against x, whole and near 0; the band is 95 % sampling noise."""
    figure = _figure(height=2.9)
    ordered = np.sort(p_values)
    shares = np.arange(1, len(ordered) + 1) / len(ordered)
    at_alpha = float((p_values <= alpha).mean())
    near = max(0.2, min(1.0, 2 * alpha))
    for axes, end in zip(figure.subplots(1, 2), (1.0, near), strict=True):
        x = np.linspace(0, end, 200)
        noise = 1.96 * np.sqrt(x * (1 - x) / len(ordered))
        axes.fill_between(x, x - noise, x + noise, color=PALE, alpha=0.6, linewidth=0)
        axes.plot([0, end], [0, end], color=GREY, linewidth=1)
        axes.step(ordered, shares, where="post", color=KNOWN_COLOUR)
        axes.axvline(alpha, color=INK, linewidth=1, linestyle=(0, (4, 2)))
        axes.plot(alpha, at_alpha, "o", color=KNOWN_COLOUR, markeredgecolor="white", markersize=7)
        axes.set(xlim=(0, end), ylim=(0, end), aspect="equal", xlabel="p-value x")
        _percent(axes)
    whole, zoom = figure.axes
    whole.set_ylabel("share at or below x")
    whole.set_title("all p-values")
    zoom.set_title(f"near 0: {at_alpha:.1%} at alpha = {alpha:.3g}")
    return figure


@_styled
def plot_families(families: Mapping[str, Mapping[str, float]], own: str) -> Figure:
    """AUROC in percent of each scorer by corruption family, as bars that start at 50, the value of a coin."""
    ordered = sorted(families, key=lambda family: families[family]["nap"])
    scorers = list(families[ordered[0]])
    figure = _figure(width=2 * WIDTH, height=1.1 + 0.42 * len(ordered))
    axes = figure.subplots()
    thickness = 0.8 / len(scorers)
    shades = dict(zip([name for name in scorers if name != own], (PALE, GREY), strict=False)) | {own: INK}
    for position, scorer in enumerate(scorers):
        heights = np.arange(len(ordered)) + 0.4 - thickness * (position + 0.5)
        widths = [families[family][scorer] - 50 for family in ordered]
        axes.barh(heights, widths, thickness * 0.9, left=50, color=shades.get(scorer, GREY), label=_plain(scorer))
    axes.axvline(50, color=INK, linewidth=1)
    axes.set_yticks(range(len(ordered)), [_plain(family) for family in ordered])
    for label, family in zip(axes.get_yticklabels(), ordered, strict=True):
        if families[family].get("nap", 100.0) < 50:
            label.set(color=_dark(STRANGE_COLOURS[0]), weight="bold")
    lowest = min(value for row in families.values() for value in row.values())
    axes.set(xlim=(min(45.0, lowest - 2), 100), xlabel="AUROC; left of 50 % the score is inverted")
    axes.xaxis.set_major_formatter(PercentFormatter(100, decimals=0))
    axes.tick_params(left=False)
    axes.margins(y=0.01)
    axes.spines.left.set_visible(False)
    figure.legend(loc="outside upper right", ncols=len(scorers))
    return figure


def _figure(height: float, width: float = WIDTH) -> Figure:
    return Figure(figsize=(width, height), dpi=100, layout="constrained")


def _score_edges(groups: list[Floats], threshold: float) -> Floats:
    pooled = np.concatenate(groups)
    low, high = np.quantile(pooled, [0.002, 0.998])
    low, high = min(low, threshold), max(high, threshold)
    margin = 0.02 * (high - low) or 0.5
    return np.linspace(low - margin, high + margin, BINS + 1)


def _shares(scores: Floats, edges: Floats) -> Floats:
    # The outermost bins take what lies beyond them, so that one outlier does not squeeze the rest.
    return np.histogram(np.clip(scores, edges[0], edges[-1]), edges)[0] / len(scores)


def _median_line(points: Floats) -> tuple[Floats, Floats]:
    """Median (mean, max) of consecutive groups of the points, ordered by mean."""
    groups = np.array_split(points[np.argsort(points[:, 0], kind="stable")], min(24, len(points)))
    x, y = np.array([np.median(group, axis=0) for group in groups]).T
    return x, y


def _spread(heights: Mapping[str, float], gap: float, top: float) -> dict[str, float]:
    """Heights of labels between 0 and `top`, moved as little as keeps them `gap` apart."""
    names = sorted(heights, key=lambda name: heights[name])
    steps = gap * np.arange(len(names))
    spread = isotonic_regression([heights[name] for name in names] - steps).x + steps
    return dict(zip(names, np.clip(spread, steps, top - steps[::-1]).tolist(), strict=True))


def _plain(name: str, longest: int = 28) -> str:
    """A name as matplotlib shows it: no formula between dollar signs, no label wider than the plot."""
    return (name if len(name) <= longest else f"{name[: longest - 1]}…").replace("$", r"\$")


def _dark(colour: str) -> str:
    """The colour as text needs it on white."""
    return "#" + "".join(f"{int(0.72 * int(colour[at : at + 2], 16)):02x}" for at in (1, 3, 5))


def _percent(axes: Axes) -> None:
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))

"""The report of an evaluation: one HTML page that needs nothing beside it, and its tables as JSON, CSV and Markdown.

Equal input gives equal bytes: no dates, no random ids, nothing of the machine.
"""

import csv
import json
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from importlib.resources import files
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from oodgate.images.decode import decode
from oodgate.offline import plots
from oodgate.offline.dataset import MAX_PIXELS
from oodgate.offline.measures import Measures
from oodgate.settings import IMAGE_TYPES

Floats = NDArray[np.floating]

THUMBNAILS, THUMBNAIL_SIDE = 12, 96
LISTED_SETS = 3  # more of them make the verdict unreadable
COLUMNS = (("FPR95", min, "lower"), ("AUROC", max, "higher"), ("AUPR", max, "higher"))


@dataclass(frozen=True, eq=False)
class ReportSet:
    """A set of images as the bundle's own scorer sees it; every field but the name has N entries in one order."""

    name: str
    scores: Floats
    p_values: Floats
    predicted: Sequence[object] | NDArray[Any]  # class names or indices, shown as they are
    paths: tuple[Path, ...]


@dataclass(frozen=True, eq=False)
class ReportData:
    """All that the report shows; shares and measures are in percent, sets and scorers go by name."""

    name: str
    version: str
    facts: Mapping[str, str]  # what else to know about the bundle
    known: ReportSet
    strange: tuple[ReportSet, ...]  # at least one
    threshold: float
    alpha: float
    scorer: str  # the bundle's own
    w: float | None
    measures: Mapping[str, Mapping[str, Measures]]  # by strange set, then scorer
    mean: Mapping[str, Measures]  # over the sets, by scorer
    accuracy: float | None
    accepted: Mapping[str, float]  # of the known set and each strange one
    document: Mapping[str, Any]  # the content of measures.json
    channels: Mapping[str, Floats] | None = None  # (M, 2) mean and max of channels, the known set among them
    sensitivity: tuple[Floats, Mapping[str, Floats]] | None = None  # weights (G,), FPR95 (G,) by set
    families: Mapping[str, Mapping[str, float]] | None = None  # AUROC by corruption family, then scorer
    warnings: tuple[str, ...] = ()


def write_report(data: ReportData, folder: Path, command: str) -> Path:
    """Write report.html into `folder` and return its path; `command` is the line that makes it again."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files("oodgate.offline").joinpath("report.html").read_text("utf-8"))
    page = template.render(
        data=data,
        command=command,
        verdict=verdict(data),
        colours=_colours(data),
        tables=[_measure_table(data, index) for index in range(len(COLUMNS))],
        figures={name: _encode(figure) for name, figure in _figures(data).items()},
        galleries=_galleries(data),
    )
    return _write(folder / "report.html", page)


def write_tables(data: ReportData, folder: Path) -> None:
    """Write measures.json (the document given), measures.csv and measures.md into `folder`."""
    _write(folder / "measures.json", json.dumps(data.document, indent=1, ensure_ascii=False) + "\n")
    text = StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["set", "scorer", "fpr95", "auroc", "aupr"])
    table.writerows([name, scorer, *astuple(row)] for name, rows in _by_set(data) for scorer, row in rows.items())
    _write(folder / "measures.csv", text.getvalue())
    _write(folder / "measures.md", _markdown(data))


def verdict(data: ReportData) -> str:
    """What the gate does at its threshold, in one sentence."""
    rejected = {group.name: 100 - data.accepted[group.name] for group in data.strange}
    parts = [f"{share:.1f} % of {name}" for name, share in rejected.items()]
    if len(parts) > LISTED_SETS:
        best, worst = max(rejected, key=rejected.__getitem__), min(rejected, key=rejected.__getitem__)
        mean = sum(rejected.values()) / len(rejected)
        listing = (
            f"{mean:.1f} % of strange images on average over {len(rejected)} sets, from {rejected[worst]:.1f} % of "
            f"{worst} to {rejected[best]:.1f} % of {best}"
        )
    else:
        listing = " and ".join(part for part in (", ".join(parts[:-1]), parts[-1]) if part)
    return f"Accepts {data.accepted[data.known.name]:.1f} % of in-distribution images, rejects {listing}."


def _by_set(data: ReportData) -> list[tuple[str, Mapping[str, Measures]]]:
    return [*data.measures.items(), ("mean", data.mean)]


def _best(values: Iterable[float], choose: Callable[[Iterable[float]], float]) -> float:
    return choose(round(value, 2) for value in values)


def _measure_table(data: ReportData, index: int) -> dict[str, Any]:
    """One measure: a row for each scorer, a column for each set; values that print as the best are marked."""
    title, choose, better = COLUMNS[index]
    columns = _by_set(data) if len(data.measures) > 1 else _by_set(data)[:-1]
    values = {scorer: [astuple(rows[scorer])[index] for _, rows in columns] for scorer in data.mean}
    best = [_best(column, choose) for column in zip(*values.values(), strict=True)]
    rows = [
        (scorer, [(value, round(value, 2) == top) for value, top in zip(row, best, strict=True)])
        for scorer, row in values.items()
    ]
    return {"title": title, "better": better, "columns": [name for name, _ in columns], "rows": rows}


def _markdown(data: ReportData) -> str:
    lines = ["| set | scorer | FPR95 | AUROC | AUPR |", "|---|---|--:|--:|--:|"]
    for name, rows in _by_set(data):
        measured = [astuple(row) for row in rows.values()]
        best = [_best(column, COLUMNS[at][1]) for at, column in enumerate(zip(*measured, strict=True))]
        for scorer, values in zip(rows, measured, strict=True):
            cells = [f"**{v:.2f}**" if round(v, 2) == top else f"{v:.2f}" for v, top in zip(values, best, strict=True)]
            own = " (own)" if scorer == data.scorer else ""
            lines.append(f"| {' | '.join([_cell(name), _cell(scorer) + own, *cells])} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


def _colours(data: ReportData) -> dict[str, str]:
    return plots.set_colours(data.known.name, [group.name for group in data.strange])


def _figures(data: ReportData) -> dict[str, Figure]:
    """The plots by the name under which the template describes them, in the order of the page."""
    colours, known = _colours(data), data.known
    strange = {group.name: group.scores for group in data.strange}
    figures = {
        "scores": plots.plot_scores(known.scores, strange, data.threshold, colours),
        "roc": plots.plot_roc(known.scores, strange, colours),
    }
    if data.sensitivity is not None:
        ends = ("NAP", data.scorer.removeprefix("nap-"))
        figures["sensitivity"] = plots.plot_sensitivity(*data.sensitivity, data.w, ends, colours)
    figures["p_values"] = plots.plot_p_values(known.p_values, data.alpha)
    if data.channels is not None:
        figures["channels"] = plots.plot_channels(data.channels, known.name, colours)
    if data.families is not None:
        figures["families"] = plots.plot_families(data.families, data.scorer)
    return figures


def _encode(figure: Figure) -> dict[str, Any]:
    width, height = (round(100 * inches) for inches in figure.get_size_inches())
    wide = width > 100 * plots.WIDTH
    return {"uri": plots.encode_figure(figure), "width": width, "height": height, "wide": wide}


def _galleries(data: ReportData) -> list[dict[str, Any]]:
    """The worst mistakes of either kind, worst first."""
    strange = [(group, int(row)) for group in data.strange for row in np.flatnonzero(group.scores >= data.threshold)]
    known = [(data.known, int(row)) for row in np.flatnonzero(data.known.scores < data.threshold)]
    return [
        _gallery("Strange images accepted with most confidence", strange, sign=-1),
        _gallery("In-distribution images rejected most strongly", known, sign=1),
    ]


def _gallery(title: str, mistakes: list[tuple[ReportSet, int]], sign: int) -> dict[str, Any]:
    worst = sorted(mistakes, key=lambda mistake: sign * mistake[0].scores[mistake[1]])[:THUMBNAILS]
    return {"title": title, "count": len(mistakes), "images": [_thumbnail(group, row) for group, row in worst]}


def _thumbnail(group: ReportSet, index: int) -> dict[str, Any]:
    path = group.paths[index]
    image = Image.fromarray(decode(path.read_bytes(), MAX_PIXELS, tuple(IMAGE_TYPES)))
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return {
        "uri": f"data:image/png;base64,{b64encode(buffer.getvalue()).decode()}",
        "file": f"{path.parent.name}/{path.name}",
        "set": group.name,
        "predicted": str(group.predicted[index]),
        "p_value": float(group.p_values[index]),
    }


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("utf-8", "replace"))  # file names need not be valid Unicode
    return path

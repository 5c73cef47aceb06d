"""What the commands show on a terminal: bars, tables, one JSON object."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

_WIDE = 1000  # letters: what reads a pipe is not helped by cut columns

out = Console() if sys.stdout.isatty() else Console(width=_WIDE)
err = Console(stderr=True)


@contextmanager
def progress_bar(title: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on standard error; yields what advances it."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda count: progress.update(task, advance=count)


def print_json(record: dict[str, Any]) -> None:
    """One JSON object on standard output."""
    typer.echo(json.dumps(record, indent=1, ensure_ascii=False))


def print_export(manifest: Any) -> None:
    """What was found and what to mind, a line each; the engines' speeds where they were compared."""
    outputs, facts = manifest.outputs, manifest.provenance
    lines = [f"logits {outputs.logits}, activation {outputs.activation}: {facts['activation']}", *manifest.notices]
    for line in lines:
        out.print(f"- {line}", markup=False, highlight=False, soft_wrap=True)
    if engines := facts.get("engines"):
        table = Table("engine", "images/s", "MB", "difference", title="batch of 8 on this CPU")
        for name, row in sorted(engines.items(), key=lambda entry: -entry[1]["images_per_second"]):
            speed, size = f"{row['images_per_second']:.1f}", f"{row['megabytes']:.1f}"
            table.add_row(name, speed, size, f"{row['difference']:.1g}")
        out.print(table)


def print_calibration(record: dict[str, Any]) -> None:
    """Threshold, guarantee and reasons, a line each."""
    scorer, guarantee = record["scorer"], record["guarantee"]
    weighted = "" if scorer["w"] is None else f", w {scorer['w']}"
    out.print(f"{scorer['name']}{weighted}: threshold {record['threshold']:.6g} ({guarantee['kind']})")
    out.print(f"{guarantee['images']} images, {record['clamped_images']} with a clamped score")
    out.print(", ".join(f"{kind} {value:.6g}" for kind, value in record["thresholds"].items()))
    for name, check in record["precision_checks"].items():
        out.print(f"{name} changes {check['changed_decisions']:.2%} of the decisions")
    for device, check in record["decoding_checks"].items():
        out.print(f"decoding on {device} changes {check['changed_decisions']:.2%} of the decisions")
    if ece := record.get("ece"):
        out.print(
            f"temperature {record['temperature']:.3f}: calibration error {ece['before']:.2f} -> {ece['after']:.2f} %"
        )
    else:
        out.print("no temperature: it needs every image in a folder with the name of its class")
    for name, row in record["check"].items():
        fpr95 = ", ".join(f"{scorer} {values['fpr95']:.1f}" for scorer, values in row["measures"].items())
        out.print(f"{name}: {row['rejected']:.1f} % rejected; FPR95 {fpr95}")
    for reason in record.get("search", {}).get("reasons", ()):
        out.print(f"- {reason}")


def print_predictions(records: Sequence[dict[str, Any]]) -> None:
    """The verdicts as a table, and a line for each file without one."""
    table = Table(Column("file", overflow="fold"), "decision", "class", "probability", "score", "p-value")
    for record in records:
        if "problem" in record:
            out.print(f"{record['path']}: {record['problem']}", markup=False, highlight=False, soft_wrap=True)
        else:
            numbers = (f"{record[key]:.4g}" for key in ("probability", "score", "p_value"))
            table.add_row(record["path"], record["decision"], record["class"], *numbers)
    out.print(table)


def print_evaluation(result: Any) -> None:
    """The measures as a table."""
    accuracy = "no labels" if result.accuracy is None else f"{result.accuracy:.2f} %"
    out.print(f"{len(result.images['id'])} in-distribution images, accuracy {accuracy}")
    table = Table("set", "scorer", "FPR95", "AUROC", "AUPR", title="percent; in-distribution is positive")
    for name, rows in {**result.sets, "mean": result.mean}.items():
        for scorer, row in rows.items():
            table.add_row(name, scorer, *(f"{value:.2f}" for value in (row.fpr95, row.auroc, row.aupr)))
    out.print(table)
    out.print("accepted: " + ", ".join(f"{name} {share:.2f} %" for name, share in result.accepted.items()))

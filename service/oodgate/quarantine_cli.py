"""The commands for the images that the service keeps: look, label, export, make room."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer
from rich.table import Column, Table

from oodgate.console import out, print_json
from oodgate.errors import QuarantineError
from oodgate.options import JsonOption
from oodgate.settings import Settings

if TYPE_CHECKING:
    from oodgate.quarantine.archive import Archive

_ID_LETTERS = 12
_TIME_LETTERS = len("2026-01-31T23:59:59")

app = typer.Typer(help="Images that the service keeps for people to look at.", no_args_is_help=True)

LabelName = Literal["in", "out"]
PlaceOption = Annotated[
    str, typer.Option("--quarantine", envvar="OODGATE_QUARANTINE", help="Folder or URL that the service keeps them in.")
]
StateOption = Annotated[
    Path | None,
    typer.Option("--state-dir", envvar="OODGATE_STATE_DIR", help="Folder of the index, where the files are at a URL."),
]
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The first four or more letters of an id.")]


@app.command("ls")
def list_images(
    place: PlaceOption = "",
    state: StateOption = None,
    decision: Annotated[Literal["accept", "reject"] | None, typer.Option(help="Only images decided so.")] = None,
    label: Annotated[
        Literal["in", "out", "none"] | None, typer.Option(help="Only images labelled so, or not yet.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most images to list.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List images, newest first."""
    with _opened(place, state) as archive:
        entries = [entry.as_dict() for entry in archive.index.entries(decision, label, limit)]
    if as_json:
        print_json({"images": entries})
        return
    out.print(_table(entries))


@app.command()
def show(identity: IdArgument, place: PlaceOption = "", state: StateOption = None) -> None:
    """Print all that is known of an image as JSON, and where its file is."""
    with _opened(place, state) as archive:
        entry = archive.find(identity)
        print_json({**entry.as_dict(), "file": archive.files.where(entry.name)})


@app.command("label")
def label_images(
    words: Annotated[
        list[str], typer.Argument(metavar="ID... in|out [CLASS]", help="in: it belongs to the classifier's world.")
    ],
    place: PlaceOption = "",
    state: StateOption = None,
) -> None:
    """Say what images are; one that is in has the predicted class if none is given."""
    identities, label, class_name = _parse_label(words)
    with _opened(place, state) as archive:
        entries = [archive.find(identity) for identity in identities]
        for entry in entries:
            said = archive.label(entry, label, class_name)
            out.print(f"{entry.id[:_ID_LETTERS]}: {label}{f', class {said}' if said else ''}", markup=False)


@app.command("export")
def export_images(
    label: Annotated[LabelName, typer.Option(help="The label of the images to copy.")],
    folder: Annotated[Path, typer.Option("--out", help="Folder to copy them into; those of a class into a subfolder.")],
    place: PlaceOption = "",
    state: StateOption = None,
) -> None:
    """Copy labelled images into a folder that `calibrate` and `evaluate` read."""
    from oodgate.quarantine.labels import export

    with _opened(place, state) as archive:
        out.print(f"{export(archive, label, folder)} images copied to {folder}", markup=False)


@app.command()
def prune(
    max_bytes: Annotated[
        int, typer.Option("--bytes", envvar="OODGATE_QUARANTINE_BYTES", min=1, help="Most bytes to keep.")
    ] = Settings.model_fields["quarantine_bytes"].default,
    age_days: Annotated[
        float, typer.Option(envvar="OODGATE_QUARANTINE_AGE_DAYS", min=0, help="Days to keep an image not seen again.")
    ] = Settings.model_fields["quarantine_age_days"].default,
    place: PlaceOption = "",
    state: StateOption = None,
) -> None:
    """Remove what is too old or too much, and what an interrupted writing left behind."""
    from time import time

    from oodgate.quarantine.archive import Bounds

    with _opened(place, state) as archive:
        repaired = archive.repair()
        removed = archive.prune(Bounds(max_bytes, age_days), time())
        out.print(
            f"{removed} images removed, {repaired} remains of interrupted writings, {archive.index.bytes} bytes left"
        )


@contextmanager
def _opened(place: str, state: Path | None) -> Iterator["Archive"]:
    from oodgate.quarantine.archive import open_archive

    if not place:
        raise QuarantineError("no quarantine is named; give --quarantine FOLDER or set OODGATE_QUARANTINE")
    archive = open_archive(place, state)
    try:
        yield archive
    except (OSError, sqlite3.Error) as error:
        raise QuarantineError(
            f"the quarantine {place} cannot be read or written ({error}); check the disk, and run "
            "`oodgate quarantine prune` where files are missing"
        ) from error
    finally:
        archive.close()


def _table(entries: list[dict[str, Any]]) -> Table:
    # What the other commands take is shown whole, and so is what was decided.
    whole = {name: Column(name, no_wrap=True) for name in ("id", "time", "decision", "p-value")}
    columns = ("id", "time", "seen", "decision", "class", "probability", "p-value", "label")
    table = Table(*(whole.get(name, Column(name, overflow="fold")) for name in columns))
    for entry in entries:
        numbers = (f"{entry['probability']:.3f}", f"{entry['p_value']:.4f}")
        said = " ".join(word for word in (entry["label"], entry["class"]) if word)
        shown = (entry["id"][:_ID_LETTERS], entry["time"][:_TIME_LETTERS], str(entry["count"]))
        table.add_row(*shown, entry["decision"], entry["predicted"], *numbers, said)
    return table


def _parse_label(words: list[str]) -> tuple[list[str], LabelName, str | None]:
    labels = get_args(LabelName)
    place = next((position for position, word in enumerate(words) if word in labels), None)
    if not place or len(words) > place + 2:
        raise QuarantineError(f"'{' '.join(words)}' is not ID... in|out [CLASS]; name images, then what they are")
    label: LabelName = "in" if words[place] == "in" else "out"
    class_name = words[place + 1] if len(words) > place + 1 else None
    if label == "out" and class_name is not None:
        raise QuarantineError(f"an image that is out has no class, and '{class_name}' was given; leave it away")
    return words[:place], label, class_name

"""Put the measured tables into the documents: `reproduction.md`, and the pages of the scores.

    python docs/measured.py

The figures are those that `models/recipes/paper-cifar/reproduce.py` wrote beside itself. In the pages a table stands
between `<!-- measured: SCORER ... -->` and `<!-- end -->`; in `reproduction.md` a full one, with the paper's figures,
between `<!-- reproduced: NETWORK -->` and `<!-- end -->`.
"""

import json
import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
RECORDS = DOCS.parent / "models" / "recipes" / "paper-cifar"
NETWORKS = ("10", "100")


def record_of(network: str) -> dict[str, Any]:
    """What was measured with one network."""
    record: dict[str, Any] = json.loads((RECORDS / f"measured-{network}.json").read_text())
    return record


def pair(values: list[float] | None) -> str:
    """FPR95 / AUROC."""
    return "" if values is None else f"{values[0]:.2f} / {values[1]:.2f}"


def table(heads: list[str], rows: list[list[str]]) -> str:
    """A Markdown table whose first column is text."""
    lines = [heads, ["---"] + ["---:"] * (len(heads) - 1), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def measured(scorers: list[str]) -> str:
    """Ours alone, one row a scorer and network."""
    parts = []
    for network in NETWORKS:
        record = record_of(network)
        sets = list(record["rows"]["energy"]["sets"])
        rows = [
            [
                f"`{name}`",
                "" if row["w"] is None else f"{row['w']:g}",
                *(pair(row["sets"][key]["ours"]) for key in sets),
            ]
            for name, row in record["rows"].items()
            if name in scorers
        ]
        parts.append(table([f"CIFAR-{network} network", "w", *sets], rows))
    return "\n\n".join(parts)


def reproduced(network: str) -> str:
    """Ours beside the paper's, and the paper's LSUN-Crop beside its textures; then with other settings."""
    record, paper = record_of(network), json.loads((RECORDS / "paper.json").read_text())[network]
    counts = ", ".join(f"{count:,} {name}" for name, count in record["images"].items())
    facts = f"Fitted on {record['fitted_on']:,} images; accuracy {record['accuracy']} %; images: {counts}."
    changes = ", ".join(f"{name} {value:g}" for name, value in record["settings"].items())
    parts = [
        facts,
        compared(record["rows"], paper),
        f"The same with {changes}:",
        compared(record["rows_with_settings"], paper),
    ]
    return "\n\n".join(parts)


def compared(rows: dict[str, Any], paper: dict[str, Any]) -> str:
    """A table of ours and the paper's."""
    columns = columns_of(rows)
    lines = [
        [
            f"`{name}`",
            "" if row["w"] is None else f"{row['w']:g}",
            *(
                pair(row["sets"][key][whose] if key in row["sets"] else paper.get(name, {}).get(key))
                for key, whose in columns
            ),
        ]
        for name, row in rows.items()
    ]
    return table(["scorer", "w", *(f"{key}, {whose}" for key, whose in columns)], lines)


def columns_of(rows: dict[str, Any]) -> list[tuple[str, str]]:
    """Every set with ours, and the paper's where it has one; LSUN-Crop stands beside the textures."""
    columns: list[tuple[str, str]] = []
    for name in next(iter(rows.values()))["sets"]:
        columns.append((name, "ours"))
        if any(row["sets"][name]["paper"] for row in rows.values()):
            columns.append((name, "paper"))
        if name == "textures":
            columns.append(("lsun-crop", "paper"))
    return columns


def filled(text: str) -> str:
    """A document with its tables as they are measured."""

    def fill(found: re.Match[str]) -> str:
        kind, arguments = found[1], found[2].split()
        made = measured(arguments) if kind == "measured" else reproduced(*arguments)
        return f"<!-- {kind}: {found[2]} -->\n\n{made}\n\n<!-- end -->"

    return re.sub(r"<!-- (measured|reproduced): (.+?) -->.*?<!-- end -->", fill, text, flags=re.DOTALL)


def documents() -> list[Path]:
    """The documents with tables."""
    return [DOCS / "reproduction.md", *sorted((DOCS / "scores").glob("*.md"))]


if __name__ == "__main__":
    for path in documents():
        path.write_text(filled(path.read_text()))

"""The classes of a network: names in the order of the logits, the owner's ids, and what each belongs to."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from oodgate.errors import ExportError

_FORMS = (
    'give a JSON list of names or of {"name", "id", "parent"}, an object {"classes", "parents"}, or one name a line'
)


@dataclass(frozen=True)
class Classes:
    """Names in the order of the logits; ids in the same order, or none; parents by name."""

    names: tuple[str, ...]
    ids: tuple[str, ...] = ()
    parents: dict[str, str] = field(default_factory=dict)


def read_classes(path: Path) -> Classes:
    """The classes of a file in any of the forms of docs/export.md; raises ExportError naming what does not fit."""
    entries, parents = _read_entries(path)
    named = [entry if isinstance(entry, dict) else {"name": entry} for entry in entries]
    for entry in named:
        if not set(entry) <= {"name", "id", "parent"} or not all(isinstance(text, str) for text in entry.values()):
            raise ExportError(f"{path} holds {str(entry)[:100]}, which is no class; {_FORMS}")
    names = tuple(entry.get("name", "").strip() for entry in named)
    if len(set(names)) != len(names) or len(names) < 2 or not all(names):
        raise ExportError(f"{path} has {len(names)} classes, {len(set(names))} of them distinct; need two or more")
    ids = tuple(entry["id"] for entry in named if "id" in entry)
    if ids and len(ids) != len(names):
        raise ExportError(f"{path} has {len(ids)} ids for {len(names)} classes; give every class an id, or none")
    own = {name: entry["parent"] for name, entry in zip(names, named, strict=True) if "parent" in entry}
    return Classes(names, ids, parents | own)


def _read_entries(path: Path) -> tuple[list[Any], dict[str, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        content: Any = (
            json.loads(text) if path.suffix == ".json" else [line for line in text.split("\n") if line.strip()]
        )
    except (OSError, ValueError) as error:
        raise ExportError(f"the classes cannot be read from {path}: {error}; {_FORMS}") from error
    record = content if isinstance(content, dict) else {"classes": content}
    entries, parents = record.get("classes"), record.get("parents", {})
    if not (isinstance(entries, list) and isinstance(parents, dict) and set(record) <= {"classes", "parents"}):
        raise ExportError(f"{path} holds no list of classes; {_FORMS}")
    if not all(isinstance(parent, str) for parent in parents.values()):
        raise ExportError(f"{path} holds parents that are no names; {_FORMS}")
    return entries, parents

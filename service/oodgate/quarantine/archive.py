"""Files and index of a quarantine as one: what is written, found, labelled, and what has to go.

Whatever changes a file does so inside a transaction of the index. A process that dies between file and index leaves a
file without a row, or a row without its file, and `repair` removes both; at a URL, where others may keep files too, it
leaves the former.
"""

import hashlib
import re
import sqlite3
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from oodgate.errors import QuarantineError
from oodgate.quarantine.files import Files, LocalFiles, RemoteFiles
from oodgate.quarantine.index import Index
from oodgate.quarantine.record import Entry, Label, Record, suffix_of

INDEX = "index.sqlite"
_DAY_S = 86_400
_SHORTEST_ID = 4


@dataclass(frozen=True)
class Bounds:
    """How much is kept, and for how long after it was last seen."""

    bytes: int
    age_days: float


class Archive:
    """A quarantine that is open; for one thread at a time."""

    def __init__(self, index: Index, files: Files) -> None:
        self.index = index
        self.files = files

    def keep(self, data: bytes, record: Record, share: float, bounds: Bounds) -> bool:
        """Keep an image, and remove others to make room; False where it is larger than all the room there is."""
        if len(data) > bounds.bytes:
            return False
        identity, suffix = hashlib.sha256(data).hexdigest(), suffix_of(data)
        written = False
        try:
            with self.index.transaction():
                if self.index.get(identity) is None:
                    self._make_room(bounds.bytes - len(data))
                    self.files.write(identity + suffix, data)
                    written = True
                self.index.add(identity, suffix, len(data), share, record)
        except BaseException:
            if written:
                with suppress(Exception):  # what is left behind is removed by `repair`
                    self.files.remove(identity + suffix)
            raise
        return True

    def prune(self, bounds: Bounds, now: float) -> int:
        """Remove what is too old or too much, the oldest first, labelled images last; returns how many went."""
        with self.index.transaction():
            old = self.index.older_than(now - bounds.age_days * _DAY_S)
            self._remove(old)
            return len(old) + self._make_room(bounds.bytes)

    def repair(self) -> int:
        """Remove rows without their whole file, and stray files where nobody else keeps any; returns how many."""
        with self.index.transaction():
            sizes = self.files.sizes()
            entries = {entry.name: entry for entry in self.index.entries()}
            lost = [entry for name, entry in entries.items() if sizes.get(name) != entry.bytes]
            stray = sizes.keys() - entries.keys() if self.files.alone else set()
            self._remove(lost)
            for name in stray:
                self.files.remove(name)
            return len(lost) + len(stray)

    def find(self, start: str) -> Entry:
        """The image whose id begins so; raises QuarantineError where there is none, or more than one."""
        if not re.fullmatch(rf"[0-9a-f]{{{_SHORTEST_ID},64}}", start):
            raise QuarantineError(f"'{start}' is no id, nor the first {_SHORTEST_ID} or more letters of one")
        known = self.index.beginning_with(start)
        if len(known) == 1:
            return known[0]
        reason = "more than one image has" if known else "no image has"
        raise QuarantineError(f"{reason} an id beginning with '{start}'; `oodgate quarantine ls` shows the ids")

    def label(self, entry: Entry, label: Label, class_name: str | None) -> str | None:
        """Write down what a person said of an image; returns its class, which is the predicted one if none is given."""
        class_name = (class_name or entry.record.predicted) if label == "in" else None
        with self.index.transaction():
            self.index.label(entry.id, label, class_name)
        return class_name

    def close(self) -> None:
        """Close the index."""
        self.index.close()

    def _make_room(self, most: int) -> int:
        doomed, excess = [], self.index.bytes - most
        for entry in self.index.oldest_first():
            if excess <= 0:
                break
            doomed.append(entry)
            excess -= entry.bytes
        self._remove(doomed)
        return len(doomed)

    def _remove(self, entries: list[Entry]) -> None:
        for entry in entries:
            self.files.remove(entry.name)
            self.index.remove(entry.id)


def open_archive(place: str, state_folder: Path | None = None, create: bool = False) -> Archive:
    """The quarantine in a folder, or at a URL with its index in `state_folder`.

    Raises QuarantineError where it cannot be opened, or where there is none and `create` does not ask for one.
    """
    path = _index_path(place, state_folder)
    if not (create or path.exists()):
        raise QuarantineError(f"there is no quarantine in {path.parent}; name the folder that the service keeps it in")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        index = Index(path)
    except (OSError, sqlite3.Error) as error:
        raise QuarantineError(
            f"the quarantine's index {path} cannot be opened ({error}); check that the folder can be written, or name "
            "another one"
        ) from error
    try:
        return Archive(index, RemoteFiles(place) if _is_url(place) else LocalFiles(Path(place) / "files"))
    except BaseException:
        index.close()
        raise


def _index_path(place: str, state_folder: Path | None) -> Path:
    if not _is_url(place):
        return Path(place) / INDEX
    if state_folder is None:
        raise QuarantineError(
            f"the index of a quarantine at {place} has to lie in a local folder; name one by OODGATE_STATE_DIR"
        )
    return state_folder / f"quarantine-{hashlib.sha256(place.encode()).hexdigest()[:12]}.sqlite"


def _is_url(place: str) -> bool:
    return "://" in place

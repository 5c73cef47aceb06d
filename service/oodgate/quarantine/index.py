"""The index of a quarantine: one SQLite file, which several processes may have open."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from oodgate.errors import QuarantineError
from oodgate.quarantine.record import Entry, Label, Record

VERSION = 1
_BUSY_S = 30.0

# The total is kept by triggers, so that it costs the same however many images there are.
_SCHEMA = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS images (
    id TEXT PRIMARY KEY, suffix TEXT NOT NULL, bytes INTEGER NOT NULL, first_seen REAL NOT NULL, count INTEGER NOT NULL,
    share REAL NOT NULL, label TEXT CHECK (label IN ('in', 'out')), class_name TEXT,
    time REAL NOT NULL, model TEXT NOT NULL, version TEXT NOT NULL, decision TEXT NOT NULL, score REAL NOT NULL,
    p_value REAL NOT NULL, predicted TEXT NOT NULL, probability REAL NOT NULL, request_id TEXT NOT NULL,
    client TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS images_by_age ON images (label IS NOT NULL, time);
CREATE TABLE IF NOT EXISTS total (id INTEGER PRIMARY KEY CHECK (id = 1), bytes INTEGER NOT NULL) STRICT;
INSERT OR IGNORE INTO total VALUES (1, 0);
CREATE TRIGGER IF NOT EXISTS added AFTER INSERT ON images BEGIN UPDATE total SET bytes = bytes + new.bytes; END;
CREATE TRIGGER IF NOT EXISTS removed AFTER DELETE ON images BEGIN UPDATE total SET bytes = bytes - old.bytes; END;
PRAGMA user_version = 1;
COMMIT;
"""

_ADD = """
INSERT INTO images VALUES (
    :id, :suffix, :bytes, :time, 1, :share, NULL, NULL,
    :time, :model, :version, :decision, :score, :p_value, :predicted, :probability, :request_id, :client
) ON CONFLICT (id) DO UPDATE SET
    count = count + 1, share = max(share, excluded.share), time = excluded.time, model = excluded.model,
    version = excluded.version, decision = excluded.decision, score = excluded.score, p_value = excluded.p_value,
    predicted = excluded.predicted, probability = excluded.probability, request_id = excluded.request_id,
    client = excluded.client
"""

_LIST = """
SELECT * FROM images
WHERE (:decision IS NULL OR decision = :decision) AND (:label IS NULL OR coalesce(label, 'none') = :label)
ORDER BY time DESC, id LIMIT :limit
"""


class Index:
    """The rows of a quarantine; every method raises sqlite3.Error where the file fails."""

    def __init__(self, path: Path) -> None:
        """Open the file, or begin it; raises QuarantineError where another oodgate wrote it."""
        self._rows = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        self._rows.row_factory = sqlite3.Row
        try:
            self._prepare(path)
        except BaseException:
            self._rows.close()
            raise

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; meanwhile no other process changes the index."""
        self._rows.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._rows.execute("COMMIT")
        except BaseException:
            self._rows.rollback()
            raise

    def add(self, identity: str, suffix: str, size: int, share: float, record: Record) -> None:
        """Add an image, or one more sight of it."""
        own = {"id": identity, "suffix": suffix, "bytes": size, "share": share}
        self._rows.execute(_ADD, own | asdict(record))

    def get(self, identity: str) -> Entry | None:
        """The image with this id."""
        row = self._rows.execute("SELECT * FROM images WHERE id = ?", (identity,)).fetchone()
        return _entry(row) if row else None

    def beginning_with(self, start: str) -> list[Entry]:
        """At most two of the images whose id begins so."""
        rows = self._rows.execute("SELECT * FROM images WHERE id >= ? AND id < ? LIMIT 2", (start, start + "g"))
        return [_entry(row) for row in rows]

    def entries(self, decision: str | None = None, label: str | None = None, limit: int = -1) -> list[Entry]:
        """Images, newest first; label "none" asks for those without one, limit -1 for all."""
        rows = self._rows.execute(_LIST, {"decision": decision, "label": label, "limit": limit})
        return [_entry(row) for row in rows]

    def oldest_first(self) -> Iterator[Entry]:
        """Images in the order in which they make room: those without a label first."""
        return map(_entry, self._rows.execute("SELECT * FROM images ORDER BY label IS NOT NULL, time"))

    def older_than(self, time: float) -> list[Entry]:
        """Images not seen since."""
        return [_entry(row) for row in self._rows.execute("SELECT * FROM images WHERE time < ?", (time,))]

    def label(self, identity: str, label: Label, class_name: str | None) -> None:
        """Write down what a person said."""
        self._rows.execute("UPDATE images SET label = ?, class_name = ? WHERE id = ?", (label, class_name, identity))

    def remove(self, identity: str) -> None:
        """Forget an image."""
        self._rows.execute("DELETE FROM images WHERE id = ?", (identity,))

    @property
    def bytes(self) -> int:
        """Bytes of all images."""
        return int(self._rows.execute("SELECT bytes FROM total").fetchone()[0])

    def close(self) -> None:
        """Close the file."""
        self._rows.close()

    def _prepare(self, path: Path) -> None:
        self._rows.execute("PRAGMA journal_mode = WAL")
        self._rows.execute("PRAGMA synchronous = NORMAL")
        version = self._rows.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, VERSION):
            raise QuarantineError(
                f"{path} has format version {version}, this oodgate reads {VERSION}; use the oodgate that wrote it or "
                "name another folder"
            )
        if version == 0:
            self._rows.executescript(_SCHEMA)


def _entry(row: sqlite3.Row) -> Entry:
    values = dict(row)
    own = {name: values.pop(name) for name in Entry.__slots__ if name != "record"}
    return Entry(**own, record=Record(**values))

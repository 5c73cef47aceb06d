"""Images and records for the tests of the quarantine."""

from pathlib import Path

from conftest import encoded, random_picture
from oodgate.quarantine.archive import Archive, Bounds, open_archive
from oodgate.quarantine.record import Record

ROOMY = Bounds(bytes=10**9, age_days=30)
DAY_S = 86_400


def record(time: float = 1000.0, **fields: object) -> Record:
    values = {
        "time": time,
        "model": "tiny",
        "version": "1",
        "decision": "reject",
        "score": -1.5,
        "p_value": 0.01,
        "predicted": "cat",
        "probability": 0.75,
        "request_id": "abc-1",
        "client": "5f2c",
    }
    return Record(**(values | fields))  # type: ignore[arg-type]


def png(seed: int) -> bytes:
    return encoded(random_picture(seed))


def kept(folder: Path, *seeds: int, **fields: object) -> Archive:
    """A quarantine of pictures that came one second after the other."""
    archive = open_archive(str(folder), create=True)
    for position, seed in enumerate(seeds):
        assert archive.keep(png(seed), record(1000.0 + position, **fields), 1.0, ROOMY)
    return archive


def seconds(archive: Archive) -> list[float]:
    """When the images that are kept came, oldest first, after the first second."""
    return [entry.record.time - 1000 for entry in reversed(archive.index.entries())]

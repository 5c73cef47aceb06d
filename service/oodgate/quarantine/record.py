"""What is known of an image that is kept."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

Label = Literal["in", "out"]
"""What a person said of an image: it belongs to the classifier's world, or it does not."""

_SUFFIXES = ((b"\xff\xd8\xff", ".jpg"), (b"\x89PNG", ".png"), (b"GIF8", ".gif"), (b"BM", ".bmp"))
_TIFF = (b"II*\0", b"MM\0*")


@dataclass(frozen=True, slots=True)
class Record:
    """How one image was judged."""

    time: float  # seconds since 1970
    model: str
    version: str
    decision: Literal["accept", "reject"]
    score: float
    p_value: float
    predicted: str  # class
    probability: float  # of that class
    request_id: str
    client: str  # a hash of the client's key, never the key itself


@dataclass(frozen=True, slots=True)
class Entry:
    """An image that is kept: the newest of its records, and what people said."""

    id: str  # SHA-256 of the file
    suffix: str
    bytes: int
    first_seen: float  # seconds since 1970
    count: int  # times that this very file was judged and taken
    share: float  # probability with which such an image is kept
    label: Label | None
    class_name: str | None
    record: Record

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.id + self.suffix

    def as_dict(self) -> dict[str, Any]:
        """A flat JSON document; times as ISO 8601 in UTC."""
        own = {"id": self.id, "bytes": self.bytes, "first_seen": iso(self.first_seen), "count": self.count}
        people = {"share": self.share, "label": self.label, "class": self.class_name}
        return {**own, **asdict(self.record), "time": iso(self.record.time), **people}


def iso(seconds: float) -> str:
    """A time in UTC, to the second."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def suffix_of(data: bytes) -> str:
    """The usual ending of a file with these bytes; .bin where they begin like none of the image formats."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return ".webp"
    if data.startswith(_TIFF):
        return ".tif"
    return next((suffix for start, suffix in _SUFFIXES if data.startswith(start)), ".bin")

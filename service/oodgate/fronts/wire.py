"""Frames: the form of everything that a front and the device process say to each other.

    kind, 1 byte | exchange, 4 bytes | length, 4 bytes | payload

An exchange is one request, numbered by the front. A front begins it with ASK or OPEN; ANSWER, REFUSAL, AGAIN or END is
the last that the device process says of it, and is said exactly once.
"""

from collections.abc import Iterator
from enum import IntEnum
from struct import Struct
from typing import NamedTuple

_HEAD = Struct("!BII")

MOST_BYTES = 2**28
"""Most bytes of a frame, unless a file may be larger; more can only be a fault."""


class Kind(IntEnum):
    """What a frame is: first what a front says, then what the device process does."""

    UP = 1  # the front listens
    ASK = 2  # judge the pixels in a slot
    OPEN = 3  # answer a request that is passed on
    BODY = 4  # a part of its body, after WANT
    TAKEN = 5  # a PART is on its way to the client
    LEFT = 6  # the client left
    REPORT = 7  # what the metrics have to count

    WELCOME = 16
    TRANSFORM = 17  # how pictures are preprocessed from now on
    STOP = 18
    WANT = 19
    START = 20  # status and headers
    PART = 21  # of the answer's body

    ANSWER = 32
    REFUSAL = 33
    AGAIN = 34  # the pixels were made for another model
    END = 35


LAST = frozenset({Kind.ANSWER, Kind.REFUSAL, Kind.AGAIN, Kind.END})
"""Kinds that end an exchange."""


class Frame(NamedTuple):
    """One message."""

    kind: int
    exchange: int
    payload: bytes


def pack(kind: Kind, exchange: int = 0, *parts: bytes) -> bytes:
    """The bytes of a frame, whose payload comes in parts."""
    return b"".join((_HEAD.pack(kind, exchange, sum(map(len, parts))), *parts))


class Frames:
    """Cuts a stream of bytes into frames."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._waiting = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that these bytes complete; raises ValueError where the stream is none of frames."""
        self._waiting += data
        while len(self._waiting) >= _HEAD.size:
            kind, exchange, length = _HEAD.unpack_from(self._waiting)
            if length > self._most_bytes:
                raise ValueError(f"a frame announces {length} bytes, at most {self._most_bytes} are taken")
            end = _HEAD.size + length
            if len(self._waiting) < end:
                return
            payload = bytes(memoryview(self._waiting)[_HEAD.size : end])
            del self._waiting[:end]
            yield Frame(kind, exchange, payload)

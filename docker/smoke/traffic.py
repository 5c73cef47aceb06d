"""Send images to a gate and count what comes back, as one line of JSON; nothing but the standard library.

A request is lost where it was sent before the gate said that it stops and has no answer. One that is cut after that,
or refused, was never taken.
"""

# ruff: noqa: T201 - what it has to say goes to standard output

import argparse
import http.client
import json
import os
import random
import struct
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp", ".bmp": "image/bmp"}


def noise_png(side: int = 32) -> bytes:
    """A PNG file of random pixels."""
    rows = b"".join(b"\0" + os.urandom(3 * side) for _ in range(side))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def images(folder: Path | None) -> Iterator[tuple[bytes, str]]:
    """Image files of a folder in a random order, again and again, or noise; each with its content type."""
    files = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in TYPES] if folder else []
    if folder and not files:
        raise SystemExit(f"no images below {folder}")
    random.Random(0).shuffle(files)  # noqa: S311
    while True:
        if not files:
            yield noise_png(), "image/png"
        for path in files:
            yield path.read_bytes(), TYPES[path.suffix.lower()]


class Traffic:
    """Senders that share a source of images, a clock and the counts."""

    def __init__(self, address: str, source: Iterator[tuple[bytes, str]], rate: float, seconds: float) -> None:
        self._address = address
        self._source = source
        self._rate = rate
        self._start = time.monotonic()
        self._end = self._start + seconds
        self._sent = 0
        self._lock = threading.Lock()
        self._stopping_since = float("inf")
        self._unanswered: list[float] = []
        self.counts: Counter[str] = Counter()

    def send_all(self) -> None:
        """One sender: at the common rate, until the end or until the gate is gone."""
        while (due := self._next()) is not None:
            body, kind, at = due
            time.sleep(max(0.0, at - time.monotonic()))
            began = time.monotonic()
            outcome = self._send(body, kind)
            with self._lock:
                self.counts[outcome] += 1
                if outcome == "unanswered":
                    self._unanswered.append(began)
                if outcome in ("503", "refused"):
                    self._stopping_since = min(self._stopping_since, began)
            if outcome == "refused":
                return

    def summary(self) -> dict[str, object]:
        """What came back."""
        lost = sum(began < self._stopping_since for began in self._unanswered)
        return {"seconds": round(time.monotonic() - self._start, 1), "lost": lost, **dict(sorted(self.counts.items()))}

    def _next(self) -> tuple[bytes, str, float] | None:
        with self._lock:
            at = self._start + self._sent / self._rate
            if at >= self._end:
                return None
            self._sent += 1
            return *next(self._source), at

    def _send(self, body: bytes, kind: str) -> str:
        connection = http.client.HTTPConnection(self._address, timeout=60)
        try:
            connection.connect()
        except OSError:
            return "refused"
        try:
            connection.request("POST", "/v1/predict", body, {"Content-Type": kind})
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException):
            return "unanswered"
        finally:
            connection.close()
        return str(json.loads(text)["decision"]) if answer.status == 200 else str(answer.status)


def main() -> None:
    """Send, then print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", default="127.0.0.1:8000")
    parser.add_argument("--folder", type=Path, help="images to send; noise if not given")
    parser.add_argument("--rate", type=float, default=4.0, help="images a second")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--senders", type=int, default=4)
    options = parser.parse_args()
    traffic = Traffic(options.address, images(options.folder), options.rate, options.seconds)
    senders = [threading.Thread(target=traffic.send_all) for _ in range(options.senders)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    print(json.dumps(traffic.summary()))


if __name__ == "__main__":
    main()

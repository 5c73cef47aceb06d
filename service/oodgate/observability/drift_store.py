"""The drift alarm's evidence in a file, so that it outlasts the process."""

import json
import os
from pathlib import Path
from threading import Event, Lock, Thread

import structlog

from oodgate.observability.drift import DriftAlarm

LOG_EVERY_S = 60.0

log = structlog.stdlib.get_logger("oodgate")


class DriftStore:
    """Keeps one alarm's evidence in a file of its own, written by a thread of its own.

    A process that is killed loses what came after the last writing; what is lost does not depend on the flags, so the
    guarantee holds for the images that were kept.
    """

    def __init__(self, path: Path, alarm: DriftAlarm, every_s: float = 10.0) -> None:
        """Restore the alarm from the file where it holds evidence of the same threshold."""
        self._path = path
        self._alarm = alarm
        self._every_s = every_s
        self._ended = Event()
        self._writing = Lock()
        self._written = b""
        self._complaints_s = LOG_EVERY_S  # since the last complaint about a file that cannot be written
        self._writer = Thread(target=self._run, name="oodgate-drift", daemon=True)
        self._load()

    def start(self) -> None:
        """Write whenever `every_s` has passed and something has changed."""
        self._writer.start()

    def save(self) -> None:
        """Write now, if something has changed; raises OSError where that fails."""
        with self._writing:
            content = json.dumps(self._alarm.state()).encode()
            if content != self._written:
                _replace(self._path, content)
                self._written = content

    def close(self) -> None:
        """End the thread and write for the last time."""
        self._ended.set()
        if self._writer.is_alive():
            self._writer.join()
        self._complaints_s = LOG_EVERY_S
        self._try_to_save()

    def _load(self) -> None:
        try:
            restored = self._alarm.restore(json.loads(self._path.read_bytes()))
        except FileNotFoundError:
            return
        except (OSError, ValueError, RecursionError):
            restored = False
        if not restored:
            log.warning("drift evidence is damaged or of another threshold, and starts anew", file=str(self._path))

    def _run(self) -> None:
        while not self._ended.wait(self._every_s):
            self._try_to_save()

    def _try_to_save(self) -> None:
        self._complaints_s += self._every_s
        try:
            self.save()
        except OSError as error:
            if self._complaints_s >= LOG_EVERY_S:
                log.error("drift evidence cannot be kept", file=str(self._path), reason=str(error))
                self._complaints_s = 0.0


def _replace(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, power failures included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)

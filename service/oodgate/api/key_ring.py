"""The keys of the clients, read again when their file changes."""

import asyncio
from pathlib import Path

import structlog

from oodgate.api_keys import ApiKey, hash_of, read_keys
from oodgate.errors import SetupError

CHECK_EVERY_S = 1.0

log = structlog.stdlib.get_logger("oodgate")


class KeyRing:
    """The keys that count now."""

    def __init__(self, file: Path) -> None:
        """Read the file; raises SetupError as `read_keys` does."""
        self._file = file
        self._seen = _state(file)
        self._keys = read_keys(file)

    def find(self, key: bytes) -> ApiKey | None:
        """Whose key this is, if anybody's."""
        # How long the look-up takes can tell of the hash alone, which leads nobody to a key.
        return self._keys.get(hash_of(key))

    async def watch(self) -> None:
        """Read the file again whenever it changes, until cancelled; in a thread, as a disk may let it wait."""
        while True:
            await asyncio.sleep(CHECK_EVERY_S)
            await asyncio.to_thread(self.refresh)

    def refresh(self) -> None:
        """Take up the keys of the file if it has changed; one that is not whole leaves the former keys."""
        state = _state(self._file)
        if state == self._seen:
            return
        self._seen = state
        try:
            self._keys = read_keys(self._file)
        except SetupError as error:
            log.error("the keys stay as they were", reason=str(error))
        else:
            log.info("keys read", keys=len(self._keys))


def _state(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino

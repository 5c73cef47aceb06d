"""A folder that remembers what was computed from images, so that an interrupted run goes on where it was."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

CHUNK = 2000
"""Images between two writes: what an interruption can cost."""


class Cache:
    """Tensors by key; without a folder nothing is remembered."""

    def __init__(self, folder: Path | None, identity: str) -> None:
        """`identity` names everything but the images that the tensors depend on."""
        self._folder = folder
        self._identity = identity

    def find(self, key: str) -> dict[str, Tensor] | None:
        """The tensors kept under a key, if there are any."""
        path = self._path(key)
        try:
            return load_file(path) if path and path.exists() else None
        except SafetensorError:  # damaged, and written anew
            return None

    def keep(self, key: str, tensors: dict[str, Tensor]) -> None:
        """Write tensors whole or not at all."""
        if path := self._path(key):
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".partial")
            save_file(tensors, partial)
            partial.replace(path)

    def _path(self, key: str) -> Path | None:
        if self._folder is None:
            return None
        return self._folder / f"{hashlib.sha256((self._identity + key).encode()).hexdigest()}.safetensors"


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """A key that changes when one of the tensors does."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def chunks_of(paths: Sequence[Path]) -> list[Sequence[Path]]:
    """Consecutive files, CHUNK or fewer at a time."""
    return [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]


def key_of(paths: Sequence[Path]) -> str:
    """A key that changes when a file does."""
    return repr([(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths])

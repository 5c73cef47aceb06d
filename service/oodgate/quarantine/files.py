"""The files of a quarantine: on a local folder, or at any URL that fsspec knows."""

from pathlib import Path
from typing import Protocol

from oodgate.errors import QuarantineError


class Files(Protocol):
    """Files by name in one place; each method raises OSError, or what the place's library raises."""

    alone: bool  # whether all files of the place are this quarantine's

    def write(self, name: str, data: bytes) -> None:
        """Write a file whole or not at all."""

    def read(self, name: str) -> bytes:
        """The content of a file."""

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""

    def sizes(self) -> dict[str, int]:
        """Bytes of every file by name, those of interrupted writings among them."""

    def where(self, name: str) -> str:
        """The path or URL of a file."""


class LocalFiles:
    """Files in a folder, spread over subfolders by the first two letters of their names."""

    alone = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, name: str, data: bytes) -> None:
        """Write a file whole or not at all; what an interruption leaves behind ends in .partial."""
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path(name + ".partial")
        try:
            partial.write_bytes(data)
            partial.replace(path)
        except OSError:
            partial.unlink(missing_ok=True)
            raise

    def read(self, name: str) -> bytes:
        """The content of a file."""
        return self._path(name).read_bytes()

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        self._path(name).unlink(missing_ok=True)

    def sizes(self) -> dict[str, int]:
        """Bytes of every file by name."""
        return {path.name: path.stat().st_size for path in self._folder.glob("??/*")}

    def where(self, name: str) -> str:
        """The path of a file."""
        return str(self._path(name))

    def _path(self, name: str) -> Path:
        return self._folder / name[:2] / name


class RemoteFiles:
    """Files at a URL, such as s3://bucket/folder; other services, or other things, may have files there too."""

    alone = False

    def __init__(self, url: str) -> None:
        """Raises QuarantineError where fsspec, or what it needs for this kind of URL, is not installed."""
        try:
            from fsspec.core import url_to_fs

            self._files, self._root = url_to_fs(url)
            self._files.makedirs(self._root, exist_ok=True)
        except (ImportError, ValueError) as error:
            raise QuarantineError(
                f"files cannot be kept at {url} ({error}); run `pip install 'oodgate[quarantine-remote]'` and install "
                "fsspec's package for this kind of URL, or name a local folder"
            ) from error

    def write(self, name: str, data: bytes) -> None:
        """Write a file whole; stores of objects never show a part of one."""
        self._files.pipe_file(self._path(name), data)

    def read(self, name: str) -> bytes:
        """The content of a file."""
        return bytes(self._files.cat_file(self._path(name)))

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        if self._files.exists(self._path(name)):
            self._files.rm_file(self._path(name))

    def sizes(self) -> dict[str, int]:
        """Bytes of every file by name, asked anew."""
        self._files.invalidate_cache()
        found = self._files.find(self._root, detail=True)
        return {path.rpartition("/")[2]: int(facts["size"]) for path, facts in found.items()}

    def where(self, name: str) -> str:
        """The URL of a file."""
        return str(self._files.unstrip_protocol(self._path(name)))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

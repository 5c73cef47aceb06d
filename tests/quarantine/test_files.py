"""Where the files lie."""

import errno
import sys
from itertools import count
from pathlib import Path

import pytest

from oodgate.errors import QuarantineError
from oodgate.quarantine.files import Files, LocalFiles, RemoteFiles

NUMBERS = count()


@pytest.fixture(params=["local", "memory", "file"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    """Each kind of place, empty."""
    if request.param == "local":
        return LocalFiles(tmp_path / "files")
    return RemoteFiles(f"memory://kept-{next(NUMBERS)}/images" if request.param == "memory" else tmp_path.as_uri())


def test_an_empty_place_holds_nothing(files: Files) -> None:
    assert files.sizes() == {}


def test_files_are_read_as_they_were_written(files: Files) -> None:
    files.write("aabb.png", b"one")
    files.write("ccdd.jpg", b"three")
    assert (files.read("aabb.png"), files.read("ccdd.jpg")) == (b"one", b"three")
    assert files.sizes() == {"aabb.png": 3, "ccdd.jpg": 5}


def test_a_removed_file_is_gone_and_may_be_removed_again(files: Files) -> None:
    files.write("aabb.png", b"one")
    for _ in range(2):
        files.remove("aabb.png")
    assert files.sizes() == {}
    with pytest.raises(FileNotFoundError):
        files.read("aabb.png")


def test_a_place_is_the_same_when_it_is_opened_again(tmp_path: Path) -> None:
    for one, other in (
        (LocalFiles(tmp_path), LocalFiles(tmp_path)),
        (RemoteFiles("memory://again"), RemoteFiles("memory://again")),
    ):
        one.write("aabb.png", b"one")
        assert other.sizes() == {"aabb.png": 3}


def test_a_file_is_told_by_its_path_or_url(tmp_path: Path) -> None:
    assert LocalFiles(tmp_path).where("aabb.png") == str(tmp_path / "aa" / "aabb.png")
    assert RemoteFiles("memory://kept").where("aabb.png").startswith("memory://")
    assert RemoteFiles("memory://kept").where("aabb.png").endswith("kept/aabb.png")


def test_a_writing_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> int:
        with path.open("wb") as file:
            file.write(data[:1])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        LocalFiles(tmp_path).write("aabb.png", b"one")
    assert LocalFiles(tmp_path).sizes() == {}


def test_an_interrupted_writing_is_seen_among_the_files_and_can_be_removed(tmp_path: Path) -> None:
    files = LocalFiles(tmp_path)
    files.write("aabb.png", b"one")
    (tmp_path / "aa" / "aacc.png.partial").write_bytes(b"o")
    assert files.sizes() == {"aabb.png": 3, "aacc.png.partial": 1}
    files.remove("aacc.png.partial")
    assert files.sizes() == {"aabb.png": 3}


@pytest.mark.parametrize("url", ["unheard://bucket", "s3://bucket/folder"])
def test_a_url_that_nothing_installed_reads_is_one_sentence(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(QuarantineError, match=r"files cannot be kept at .* install"):
        RemoteFiles(url)


def test_without_fsspec_a_url_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(QuarantineError, match=r"oodgate\[quarantine-remote\]"):
        RemoteFiles("memory://kept")

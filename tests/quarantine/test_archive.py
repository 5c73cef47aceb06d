"""Files and index of a quarantine as one."""

import hashlib
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from oodgate.errors import QuarantineError
from oodgate.quarantine.archive import INDEX, Bounds, open_archive
from oodgate.quarantine.files import RemoteFiles
from quarantined import DAY_S, ROOMY, kept, png, record, seconds

SIZE = len(png(0))  # noise compresses alike, but for some bytes
ROOM = 3 * SIZE + SIZE // 2  # for three pictures


def test_an_image_is_kept_under_its_hash_with_its_record(tmp_path: Path) -> None:
    archive, identity = kept(tmp_path, 1), hashlib.sha256(png(1)).hexdigest()
    (entry,) = archive.index.entries()
    assert (entry.id, entry.name, entry.bytes) == (identity, f"{identity}.png", len(png(1)))
    assert (entry.record, entry.first_seen, entry.count, entry.share) == (record(1000), 1000, 1, 1)
    assert (entry.label, entry.class_name) == (None, None)
    assert (tmp_path / "files" / identity[:2] / f"{identity}.png").read_bytes() == png(1)
    assert archive.index.bytes == len(png(1))


def test_the_same_bytes_are_kept_once_with_their_newest_record(tmp_path: Path) -> None:
    archive = kept(tmp_path, 1, 2)
    again = record(2000, decision="accept", score=3.0, request_id="abc-2", predicted="dog")
    archive.keep(png(1), again, 0.1, ROOMY)
    entry = archive.find(hashlib.sha256(png(1)).hexdigest())
    assert (entry.count, entry.first_seen, entry.record) == (2, 1000, again)
    assert entry.share == 1  # it would have been kept as the rejected image that it was once
    assert len(archive.index.entries()) == len(archive.files.sizes()) == 2
    assert archive.index.bytes == len(png(1)) + len(png(2))


def test_a_second_sight_keeps_the_label(tmp_path: Path) -> None:
    archive = kept(tmp_path, 1)
    archive.label(archive.index.entries()[0], "in", "dog")
    archive.keep(png(1), record(2000), 1.0, ROOMY)
    assert [(entry.label, entry.class_name) for entry in archive.index.entries()] == [("in", "dog")]


def test_bytes_are_bounded_and_the_oldest_make_room(tmp_path: Path) -> None:
    archive = kept(tmp_path)
    for position in range(6):
        archive.keep(png(position), record(1000 + position), 1.0, Bounds(ROOM, 30))
        assert archive.index.bytes == sum(archive.files.sizes().values()) <= ROOM
    assert seconds(archive) == [3, 4, 5]


def test_an_image_that_is_seen_again_is_young_again(tmp_path: Path) -> None:
    archive = kept(tmp_path, 1, 2, 3)
    archive.keep(png(1), record(1003), 1.0, Bounds(ROOM, 30))
    archive.keep(png(4), record(1004), 1.0, Bounds(ROOM, 30))
    assert seconds(archive) == [2, 3, 4]


def test_labelled_images_make_room_last(tmp_path: Path) -> None:
    archive = kept(tmp_path, 1, 2, 3)
    oldest = archive.index.entries()[-1]
    archive.label(oldest, "out", None)
    for position in range(3, 6):
        archive.keep(png(position + 1), record(1000 + position), 1.0, Bounds(ROOM, 30))
    assert seconds(archive) == [0, 4, 5]
    archive.prune(Bounds(1, 30), now=1000)
    assert seconds(archive) == []


def test_an_image_larger_than_all_the_room_is_not_kept_and_costs_no_other(tmp_path: Path) -> None:
    archive = kept(tmp_path, 1)
    assert not archive.keep(png(2) * 10, record(), 1.0, Bounds(2 * SIZE, 30))
    assert seconds(archive) == [0]


def test_age_is_bounded_labelled_images_included(tmp_path: Path) -> None:
    archive = kept(tmp_path, 1, 2)
    archive.label(archive.index.entries()[-1], "in", "cat")
    archive.keep(png(3), record(1000 + 2 * DAY_S), 1.0, ROOMY)
    assert archive.prune(Bounds(10**9, 1), now=1000 + 2 * DAY_S) == 2
    assert seconds(archive) == [2 * DAY_S]
    assert len(archive.files.sizes()) == 1


def test_pruning_within_the_bounds_removes_nothing(tmp_path: Path) -> None:
    archive = kept(tmp_path, 1, 2)
    assert (archive.prune(ROOMY, now=1001), archive.repair()) == (0, 0)
    assert seconds(archive) == [0, 1]


@pytest.mark.parametrize("damage", ["gone", "short"])
def test_repair_forgets_images_whose_file_is_not_whole(tmp_path: Path, damage: str) -> None:
    archive = kept(tmp_path, 1, 2)
    path = Path(archive.files.where(archive.index.entries()[-1].name))
    path.unlink() if damage == "gone" else path.write_bytes(b"")
    assert archive.repair() == 1
    assert seconds(archive) == [1]
    assert archive.index.bytes == sum(archive.files.sizes().values()) == len(png(2))


def test_repair_removes_files_that_the_index_does_not_know(tmp_path: Path) -> None:
    archive = kept(tmp_path, 1)
    archive.files.write("ab" * 32 + ".png", b"stray")
    archive.files.write("cd" * 32 + ".png.partial", b"st")
    assert archive.repair() == 2
    assert len(archive.files.sizes()) == 1


DIES = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from quarantined import ROOMY, png, record
from oodgate.quarantine.archive import Bounds, open_archive

archive = open_archive(sys.argv[1], create=True)
die = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
if os.environ["WHERE"] == "add":
    archive.index.add = die
    archive.keep(png(2), record(1001), 1.0, ROOMY)
else:
    archive.index.remove = die
    archive.prune(Bounds(1, 30), 1001)
"""


@pytest.mark.parametrize(("where", "left", "files"), [("add", [0], 2), ("remove", [0], 0)])
def test_after_a_crash_between_file_and_index_a_repair_makes_them_agree(
    tmp_path: Path, where: str, left: list[float], files: int
) -> None:
    kept(tmp_path, 1).close()
    paths = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
    ended = subprocess.run([sys.executable, "-c", DIES, str(tmp_path), *paths], env={"WHERE": where}, check=False)
    assert ended.returncode == -signal.SIGKILL
    archive = open_archive(str(tmp_path))
    assert (seconds(archive), len(archive.files.sizes())) == (left, files)
    assert archive.repair() == 1
    assert {entry.name: entry.bytes for entry in archive.index.entries()} == archive.files.sizes()
    assert archive.index.bytes == sum(archive.files.sizes().values())
    assert archive.keep(png(2), record(1001), 1.0, ROOMY)


def test_where_the_index_cannot_grow_no_file_is_left(tmp_path: Path) -> None:
    archive = kept(tmp_path, 1)
    archive.index._rows.execute("PRAGMA max_page_count = 1")  # at least as many as there are
    with pytest.raises(sqlite3.OperationalError, match="full"):
        for seed in range(2, 200):
            archive.keep(png(seed), record(1000 + seed), 1.0, ROOMY)
    assert {entry.name: entry.bytes for entry in archive.index.entries()} == archive.files.sizes()
    assert archive.index.bytes == sum(archive.files.sizes().values())


def test_several_processes_keep_in_one_place(tmp_path: Path) -> None:
    archives = [kept(tmp_path) for _ in range(4)]

    def fill(number: int) -> None:
        for seed in range(20):
            archives[number].keep(png(100 + seed), record(1000 + seed), 1.0, ROOMY)
            archives[number].keep(png(1000 * number + seed), record(2000 + seed), 1.0, ROOMY)

    threads = [threading.Thread(target=fill, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    entries = archives[0].index.entries()
    assert len(entries) == 20 + 4 * 20
    assert sum(entry.count for entry in entries) == 2 * 4 * 20
    assert archives[0].repair() == 0


def test_images_are_found_by_the_first_letters_of_their_id(tmp_path: Path) -> None:
    archive = kept(tmp_path, 1, 2, 3)
    for entry in archive.index.entries():
        assert archive.find(entry.id[:8]) == archive.find(entry.id) == entry


@pytest.mark.parametrize("start", ["", "abc", "zzzz", "%%%%", "____", "a" * 65])
def test_what_is_no_id_is_one_sentence(tmp_path: Path, start: str) -> None:
    with pytest.raises(QuarantineError, match=r"^'.*' is no id, nor the first 4 or more letters of one$"):
        kept(tmp_path, 1).find(start)


def test_an_id_that_no_image_has_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(QuarantineError, match=r"^no image has an id beginning with '0{64}'; `oodgate quarantine ls`"):
        kept(tmp_path, 1).find("0" * 64)


def test_an_id_that_fits_several_images_is_one_sentence(tmp_path: Path) -> None:
    archive = kept(tmp_path)
    for ending in ("0", "f"):
        archive.index.add("abcd" + ending * 60, ".png", 1, 1.0, record())
    with pytest.raises(QuarantineError, match=r"^more than one image has an id beginning with 'abcd'"):
        archive.find("abcd")
    assert archive.find("abcdf").id == "abcd" + "f" * 60


def test_lists_are_newest_first_and_filtered(tmp_path: Path) -> None:
    archive = kept(tmp_path, 1, 2)
    archive.keep(png(3), record(1002, decision="accept"), 0.1, ROOMY)
    archive.label(archive.index.entries()[2], "in", None)
    archive.label(archive.index.entries()[1], "out", None)

    def listed(**filters: object) -> list[float]:
        return [entry.record.time - 1000 for entry in archive.index.entries(**filters)]  # type: ignore[arg-type]

    assert listed() == [2, 1, 0]
    assert listed(limit=2) == [2, 1]
    assert (listed(decision="reject"), listed(decision="accept")) == ([1, 0], [2])
    assert (listed(label="in"), listed(label="out"), listed(label="none")) == ([0], [1], [2])


def test_an_in_label_has_the_predicted_class_if_none_is_given(tmp_path: Path) -> None:
    archive = kept(tmp_path, 1)
    (entry,) = archive.index.entries()
    assert (archive.label(entry, "in", None), archive.label(entry, "in", "dog")) == ("cat", "dog")
    assert archive.find(entry.id).class_name == "dog"
    assert archive.label(entry, "out", None) is None
    assert (archive.find(entry.id).label, archive.find(entry.id).class_name) == ("out", None)


def test_files_at_a_url_have_their_index_in_a_local_folder(tmp_path: Path) -> None:
    url = "memory://archive/images"
    archive = open_archive(url, tmp_path / "state", create=True)
    assert archive.keep(png(1), record(1000), 1.0, ROOMY)
    assert len(RemoteFiles(url).sizes()) == 1
    again = open_archive(url, tmp_path / "state")
    assert (seconds(again), again.repair()) == ([0], 0)
    with pytest.raises(QuarantineError, match="there is no quarantine in"):
        open_archive("memory://archive/others", tmp_path / "state")


def test_files_at_a_url_without_a_folder_for_the_index_are_one_sentence() -> None:
    with pytest.raises(QuarantineError, match="OODGATE_STATE_DIR"):
        open_archive("memory://archive", create=True)


def test_a_folder_that_is_no_quarantine_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(QuarantineError, match="there is no quarantine in"):
        open_archive(str(tmp_path / "nothing"))
    assert not (tmp_path / "nothing").exists()


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(QuarantineError, match="cannot be opened"):
        open_archive(str(tmp_path / "file" / "folder"), create=True)


def test_a_damaged_index_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / INDEX).write_bytes(b"not a database" * 100)
    with pytest.raises(QuarantineError, match=r"cannot be opened \(file is not a database\)"):
        open_archive(str(tmp_path))


def test_an_index_of_another_version_is_one_sentence(tmp_path: Path) -> None:
    archive = kept(tmp_path)
    archive.index._rows.execute("PRAGMA user_version = 9")
    archive.close()
    with pytest.raises(QuarantineError, match="has format version 9, this oodgate reads 1"):
        open_archive(str(tmp_path))


def test_repair_leaves_what_others_keep_at_a_url(tmp_path: Path) -> None:
    shared = (tmp_path / "shared").as_uri()
    own, other = (open_archive(shared, tmp_path / name, create=True) for name in ("own", "other"))
    assert own.keep(png(1), record(1), 1.0, ROOMY)
    assert other.keep(png(2), record(2), 1.0, ROOMY)
    (tmp_path / "shared" / "customers.csv").write_text("names")
    assert own.repair() == other.repair() == 0
    assert set(own.files.sizes()) == {own.index.entries()[0].name, other.index.entries()[0].name, "customers.csv"}

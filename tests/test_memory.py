"""What a process gives back once it has started, and what it may not."""

import ctypes
import gc
import mmap
from pathlib import Path

import pytest

from oodgate import memory
from oodgate.memory import settle

PAGES = 64
SIZE = PAGES * mmap.PAGESIZE


@pytest.fixture(autouse=True)
def thawed() -> object:
    yield
    gc.unfreeze()


def mapped(file: Path) -> mmap.mmap:
    """The file, privately in memory, with all of its pages there."""
    with file.open("r+b") as opened:
        memory = mmap.mmap(opened.fileno(), SIZE, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
    assert sum(memory[:: mmap.PAGESIZE]) == PAGES
    return memory


def close_to_writing(memory: mmap.mmap) -> None:
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(address), ctypes.c_size_t(SIZE), mmap.PROT_READ) == 0


def resident_kb(file: Path) -> int:
    """Of all mappings of a file together."""
    found, here = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if line[0] in "0123456789abcdef":
            here = line.endswith(str(file))
        elif here and line.startswith("Rss:"):
            found += int(line.split()[1])
    return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "library"
    file.write_bytes((b"\1" + bytes(mmap.PAGESIZE - 1)) * PAGES)
    return file


def test_pages_that_are_as_in_their_file_go_back_and_come_again(file: Path) -> None:
    memory = mapped(file)
    close_to_writing(memory)
    assert resident_kb(file) == SIZE // 1024
    settle()
    assert resident_kb(file) == 0
    assert memory[:] == file.read_bytes()


def test_pages_that_were_written_over_stay_as_they_are(file: Path) -> None:
    memory = mapped(file)
    memory[5] = 7
    close_to_writing(memory)
    settle()
    assert memory[5] == 7


def test_pages_that_were_written_over_and_are_in_the_swap_space_are_not_taken_for_clean() -> None:
    clean = "".join(
        f"{line}\n"
        for line in (
            "7f0000000000-7f0000010000 r--p 00000000 08:01 12 /lib/library.so",
            "Rss:                   0 kB",
            "Anonymous:             0 kB",
            "LazyFree:              0 kB",
            "Swap:                  0 kB",
            "SwapPss:               0 kB",
        )
    )
    assert [found[1] for found in memory._CLEAN.finditer(clean)] == ["7f0000000000"]
    assert memory._CLEAN.search(clean.replace("Swap:                  0 kB", "Swap:                  8 kB")) is None


def test_memory_that_may_still_be_written_is_left_alone(file: Path) -> None:
    memory = mapped(file)
    settle()
    assert resident_kb(file) == SIZE // 1024
    assert memory[0] == 1


def test_what_lives_is_not_searched_for_garbage_any_more() -> None:
    settle()
    assert gc.get_freeze_count() > 1000

"""A batch's way through a worker: pictures that cannot be opened cost their neighbours nothing."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import random_picture
from oodgate.api.judging import Judge, Judgement
from oodgate.bundle import load_bundle
from oodgate.errors import InferenceFailed, InvalidImage, OutOfMemory
from oodgate.gate import Gate, Verdict
from oodgate.images.opening import HostOpener
from oodgate.model import is_out_of_memory
from oodgate.pixels import Pixels


@pytest.fixture(scope="module")
def gate(bundle_folder: Path) -> Gate:
    return Gate(load_bundle(bundle_folder), "cpu")


def opens(seed: int) -> Callable[[], np.ndarray]:
    return lambda: np.array(random_picture(seed))


def raises(error: Exception) -> Callable[[], np.ndarray]:
    def fail() -> np.ndarray:
        raise error

    return fail


def score_of(gate: Gate, seed: int) -> float:
    (verdict,) = gate.judge([np.asarray(random_picture(seed))])
    assert isinstance(verdict, Verdict)
    return verdict.score


@pytest.mark.parametrize("threads", [0, 2])
def test_every_picture_gets_its_own_judgement_or_error_in_its_place(gate: Gate, threads: int) -> None:
    sizes: list[int] = []
    opener = HostOpener(gate.manifest.preprocessing, ThreadPoolExecutor(threads) if threads else None)
    damaged, defect = InvalidImage("cut short"), ZeroDivisionError()
    found = Judge(gate, opener, sizes.append).judge([opens(1), raises(damaged), opens(2), raises(defect), opens(3)])
    judged = [entry for entry in found if isinstance(entry, Judgement)]
    assert [entry.verdict.score for entry in judged] == pytest.approx([score_of(gate, seed) for seed in (1, 2, 3)])
    assert all(entry.decode_ms > 0 for entry in judged)
    assert found[1] is damaged
    assert isinstance(found[3], InferenceFailed)
    assert sizes == [3]


def test_a_batch_without_any_picture_runs_no_forward(gate: Gate) -> None:
    sizes: list[int] = []
    (found,) = Judge(gate, on_forward=sizes.append).judge([raises(InvalidImage("no picture"))])
    assert isinstance(found, InvalidImage)
    assert sizes == []


class Starved:
    """A gate whose device has memory for so many images."""

    def __init__(self, gate: Gate, images: int) -> None:
        self.manifest, self.model = gate.manifest, gate.model
        self._gate, self._images = gate, images

    def judge(self, pixels: Sequence[Pixels]) -> list[Verdict | InferenceFailed]:
        if len(pixels) > self._images:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self._gate.judge(pixels)


@pytest.mark.parametrize(("images", "sizes"), [(5, [5]), (3, [5, 2, 3]), (1, [5, 2, 1, 1, 3, 1, 2, 1, 1])])
def test_a_batch_that_the_memory_does_not_hold_is_halved(gate: Gate, images: int, sizes: list[int]) -> None:
    seen: list[int] = []
    starved = Starved(gate, images)
    found = Judge(starved, on_forward=seen.append).judge([opens(seed) for seed in range(5)])  # type: ignore[arg-type]
    scores = [entry.verdict.score for entry in found if isinstance(entry, Judgement)]
    assert scores == pytest.approx([score_of(gate, seed) for seed in range(5)])
    assert seen == sizes


def test_an_image_that_the_memory_does_not_hold_is_told_so(gate: Gate) -> None:
    found = Judge(Starved(gate, 0)).judge([opens(1), opens(2)])  # type: ignore[arg-type]
    assert [type(entry) for entry in found] == [OutOfMemory, OutOfMemory]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("shapes do not match"), False),
        (ValueError("can't allocate memory"), False),
    ],
)
def test_want_of_memory_is_told_from_other_failures(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) == expected


def test_the_allocator_of_the_cpu_is_understood() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)

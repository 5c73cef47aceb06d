"""A batch's way through a worker: pictures that cannot be opened cost their neighbours nothing."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import random_picture
from oodgate.api.judging import Judge, Judgement
from oodgate.bundle import load_bundle
from oodgate.errors import InferenceFailed, InvalidImage
from oodgate.gate import Gate, Verdict


@pytest.fixture(scope="module")
def gate(bundle_folder: Path) -> Gate:
    return Gate(load_bundle(bundle_folder), "cpu")


def opens(seed: int) -> Callable[[], Image.Image]:
    return lambda: random_picture(seed)


def raises(error: Exception) -> Callable[[], Image.Image]:
    def fail() -> Image.Image:
        raise error

    return fail


def score_of(gate: Gate, seed: int) -> float:
    (verdict,) = gate.judge([np.asarray(random_picture(seed))])
    assert isinstance(verdict, Verdict)
    return verdict.score


@pytest.mark.parametrize("threads", [0, 2])
def test_every_picture_gets_its_own_judgement_or_error_in_its_place(gate: Gate, threads: int) -> None:
    sizes: list[int] = []
    openers = ThreadPoolExecutor(threads) if threads else None
    damaged, defect = InvalidImage("cut short"), ZeroDivisionError()
    found = Judge(gate, openers, sizes.append).judge([opens(1), raises(damaged), opens(2), raises(defect), opens(3)])
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

"""The limit: how the parts become one number, and that they are measured."""

from pathlib import Path

import pytest
import torch

from conftest import encoded, random_picture
from oodgate.bench import limit
from oodgate.bench.limit import (
    ACCELERATED,
    BATCHES,
    Forward,
    Limit,
    arrangements,
    batches,
    combine,
    decoding,
    images_per_s,
    measure_limit,
)
from oodgate.bench.limit import steps as limit_steps
from oodgate.bench.pictures import ImageFile
from oodgate.bundle import load_bundle
from oodgate.errors import InvalidImage
from oodgate.settings import Settings

FILES = [ImageFile(encoded(random_picture(seed)), "image/png") for seed in range(3)]


def test_on_shared_cores_the_times_of_the_parts_add_up() -> None:
    assert combine(100.0, 100.0, shared=True) == pytest.approx(50.0)
    assert combine(100.0, 300.0, shared=True) == pytest.approx(75.0)


def test_on_a_device_of_its_own_the_slower_part_decides() -> None:
    assert combine(100.0, 300.0, shared=False) == 100.0
    assert combine(1000.0, 300.0, shared=False) == 300.0


@pytest.mark.parametrize(("device", "expected"), [("cpu", 40.0), ("cuda", 60.0)])
def test_the_limit_takes_the_fastest_forward(device: str, expected: float) -> None:
    forwards = (Forward(1, 1, 2, False, 20.0), Forward(8, 1, 2, True, 60.0), Forward(8, 2, 1, True, 50.0))
    found = Limit(device, 2, 120.0, forwards)
    assert found.best == forwards[1]
    assert found.images_per_s == pytest.approx(expected)
    assert found.as_dict()["images_per_s"] == found.images_per_s


def test_work_is_repeated_for_its_time_and_done_at_least_once() -> None:
    done: list[int] = []
    prepared: list[int] = []
    rate = images_per_s(lambda: done.append(1) or 5, 2, 0.0, lambda: prepared.append(1))
    assert rate > 0
    assert (len(done), len(prepared)) == (4, 2)  # in each of two threads once before the clock and once after


def test_an_error_of_the_work_is_not_lost(bundle_folder: Path) -> None:
    broken = decoding(load_bundle(bundle_folder), Settings(bundle=bundle_folder), [ImageFile(b"no", "image/png")])
    with pytest.raises(InvalidImage):
        images_per_s(broken, 2, 0.1)


@pytest.mark.parametrize(
    ("cores", "expected"),
    [(1, [(1, 1)]), (2, [(1, 2), (2, 1)]), (4, [(1, 4), (2, 2), (4, 1)]), (6, [(1, 6), (2, 3), (4, 1), (6, 1)])],
)
def test_cores_are_shared_out_from_one_forward_on_all_to_one_on_each(
    cores: int, expected: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limit, "cores", lambda: cores)
    assert arrangements(torch.device("cpu")) == expected


def test_a_gpu_runs_one_or_two_forwards_at_a_time_and_larger_batches() -> None:
    gpu = torch.device("cuda")
    assert arrangements(gpu) == [(1, 0), (2, 0)]
    assert batches(gpu)[-1] == 256
    assert limit_steps(gpu) == 1 + len(ACCELERATED) * 2 * len(batches(gpu))


def test_every_way_to_run_the_network_is_measured_and_torch_keeps_its_threads(bundle_folder: Path) -> None:
    steps: list[int] = []
    before = torch.get_num_threads()
    settings = Settings(bundle=bundle_folder, device="cpu")
    found = measure_limit(load_bundle(bundle_folder), settings, FILES, 0.04, steps.append)
    assert {forward.batch for forward in found.forwards} == set(BATCHES)
    assert len(found.forwards) == len(ACCELERATED) * len(BATCHES) * len(arrangements(torch.device("cpu")))
    assert {forward.acceleration for forward in found.forwards} == {"none", "onednn", "openvino"}
    assert 0 < found.images_per_s < min(found.decode_per_s, found.best.images_per_s)
    assert sum(steps) == 1 + len(found.forwards) == limit_steps(torch.device("cpu"))
    assert torch.get_num_threads() == before

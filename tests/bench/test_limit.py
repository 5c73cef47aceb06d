"""The limit: how the parts become one number, and that they are measured."""

from pathlib import Path

import pytest
import torch

from conftest import encoded, random_picture
from oodgate.acceleration import ON_CPU, ON_CUDA
from oodgate.bench import limit
from oodgate.bench.limit import Limit, combine, decoding, fastest, images_per_s, parts_of, ways_of
from oodgate.bench.pictures import ImageFile
from oodgate.bundle import load_bundle
from oodgate.errors import InvalidImage
from oodgate.rates import Way
from oodgate.settings import Settings
from oodgate.tuning import sizes_for

FILES = [ImageFile(encoded(random_picture(seed)), "image/png") for seed in range(3)]


def test_on_shared_cores_the_times_of_the_parts_add_up() -> None:
    assert combine(100.0, 100.0, shared=True) == pytest.approx(50.0)
    assert combine(100.0, 300.0, shared=True) == pytest.approx(75.0)


def test_on_a_device_of_its_own_the_slower_part_decides() -> None:
    assert combine(100.0, 300.0, shared=False) == 100.0
    assert combine(1000.0, 300.0, shared=False) == 300.0


@pytest.mark.parametrize(("device", "expected"), [("cpu", 40.0), ("cuda", 60.0)])
def test_the_limit_takes_both_parts(device: str, expected: float) -> None:
    found = Limit(device, 2, 120.0, Way(1, 2), 8, 60.0)
    assert found.images_per_s == pytest.approx(expected)
    assert found.as_dict()["images_per_s"] == found.images_per_s


def test_the_fastest_way_is_that_of_the_highest_rate_at_any_size() -> None:
    slow, fast = Way(1, 2), Way(2, 1, "openvino")
    assert fastest({slow: {1: 20.0, 8: 50.0}, fast: {1: 10.0, 4: 60.0, 8: 55.0}}) == (fast, 4)


def test_work_is_repeated_for_its_time_and_done_at_least_once() -> None:
    done: list[int] = []
    rate = images_per_s(lambda: done.append(1) or 5, 2, 0.0)
    assert rate > 0
    assert len(done) == 4  # in each of two threads once before the clock and once after


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
    monkeypatch.setattr(limit, "available_cores", lambda: cores)
    ways = ways_of(torch.device("cpu"), ("none", *ON_CPU))
    assert [way[:2] for way in ways if not way.how.accelerated] == expected
    assert {way.acceleration for way in ways} == {"none", "winograd", "onednn", "openvino"}
    assert len(ways) == 4 * len(expected)


def test_a_gpu_runs_some_forwards_at_a_time_and_larger_batches() -> None:
    gpu = torch.device("cuda")
    assert ways_of(gpu, ("none", *ON_CUDA)) == [Way(1, 0), *(Way(count, 0, "graphs") for count in (1, 2, 3))]
    assert sizes_for(gpu)[-1] == 256


def test_both_parts_are_measured_as_often_as_wanted(bundle_folder: Path) -> None:
    settings = Settings(bundle=bundle_folder, device="cpu")
    with parts_of(load_bundle(bundle_folder), settings, FILES) as parts:
        found = [parts.measure(0.02) for _ in range(2)]
    assert found[0].way == found[1].way
    assert found[0].batch in sizes_for(torch.device("cpu"))
    for one in found:
        assert 0 < one.images_per_s < min(one.decode_per_s, one.forward_per_s)

from dataclasses import replace

import pytest
import torch

from conftest import tiny_bundle
from oodgate.acceleration import How
from oodgate.api.loading import wishes_of
from oodgate.cores import available_cores
from oodgate.model import Model
from oodgate.rates import Way
from oodgate.settings import Settings
from oodgate.tuning import (
    Tuning,
    Wishes,
    chosen,
    measure,
    most_workers,
    smallest_good,
    ways_for,
    with_portion,
    worker_counts,
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model(tiny_bundle(tmp_path_factory.mktemp("bundle")), "cpu")


@pytest.mark.parametrize(
    ("rates", "workers", "size"),
    [
        ({1: 10.0}, 1, 1),
        ({1: 10.0, 2: 10.2}, 2, 1),
        ({1: 10.0, 2: 10.5}, 2, 2),
        ({1: 5.0, 2: 9.0, 4: 9.8, 8: 10.0, 16: 8.0}, 1, 4),
        ({1: 170.0, 2: 165.0, 4: 169.0, 8: 167.0, 16: 167.0}, 2, 4),  # a batch of one takes 12 ms, and two more
        ({1: 2000.0, 2: 2000.0, 4: 2000.0, 8: 2000.0, 16: 2000.0}, 1, 16),
        ({1: 2000.0, 2: 2000.0, 4: 2000.0, 8: 2000.0, 16: 2000.0}, 64, 2),
    ],
)
def test_the_smallest_batch_that_is_nearly_as_fast_is_taken(rates: dict[int, float], workers: int, size: int) -> None:
    assert smallest_good(rates, workers) == size


@pytest.mark.parametrize(
    ("rates", "workers"), [({1: 10.0}, 1), ({1: 10.0, 2: 9.0}, 2), ({1: 10.0, 2: 8.0}, 1), ({1: 7.0, 2: 10.0, 4: 9}, 4)]
)
def test_more_workers_are_taken_unless_fewer_are_clearly_faster(rates: dict[int, float], workers: int) -> None:
    assert most_workers(rates) == workers


PLAIN, FUSED, OTHER = Way(2, 1), Way(2, 1, "onednn"), Way(2, 1, "winograd")


@pytest.mark.parametrize(
    ("rates", "many", "few", "many_from"),
    [
        ({PLAIN: {1: 10.0, 4: 40.0}, FUSED: {1: 10.4, 4: 42.0}}, PLAIN, PLAIN, 1),
        ({PLAIN: {1: 10.0, 4: 40.0}, FUSED: {1: 20.0, 4: 40.0}}, PLAIN, FUSED, 4),
        ({PLAIN: {1: 10.0, 4: 40.0}, FUSED: {1: 10.0, 4: 60.0}}, FUSED, FUSED, 1),
        ({PLAIN: {1: 10.0, 4: 40.0}, FUSED: {1: 2.0, 4: 60.0}}, FUSED, PLAIN, 4),
        (
            {PLAIN: {1: 10.0, 2: 15.0, 4: 20.0}, FUSED: {1: 20.0, 2: 22.0, 4: 25.0}, OTHER: {1: 9.0, 2: 23.0, 4: 40.0}},
            OTHER,
            FUSED,
            2,
        ),
        ({PLAIN: {1: 10.0, 4: 40.0}, FUSED: {1: 15.0, 4: 60.0}, OTHER: {1: 16.0, 4: 50.0}}, FUSED, FUSED, 1),
    ],
)
def test_what_accelerates_many_images_clearly_is_taken_and_for_one_what_accelerates_that(
    rates: dict[Way, dict[int, float]], many: Way, few: Way, many_from: int
) -> None:
    found = chosen(rates)
    assert (found.many, found.few, found.many_from) == (many.how, few.how, many_from)
    assert found.images_per_s == rates[many]


def test_a_batch_is_run_by_its_size_and_by_what_runs_beside_it() -> None:
    many, few, lone = How(1, "winograd"), How(1, "openvino"), How(2, "openvino")
    arranged = Tuning(workers=2, many=many, few=few, lone=lone, many_from=4)
    assert [arranged.how(images, alone=False) for images in (1, 3, 4, 16)] == [few, few, many, many]
    assert [arranged.how(images, alone=True) for images in (1, 3, 4)] == [lone, lone, many]
    assert replace(arranged, many_from=1).how(1, alone=True) == lone
    assert arranged.hows == {many, few, lone}


@pytest.mark.parametrize(
    ("rates", "forwards", "portion", "size"),
    [
        ({1: 215.0, 2: 238.0, 4: 242.0, 8: 228.0}, {1: 232.0, 2: 255.0, 4: 250.0}, 2, 8),  # a batch of 8 takes 66 ms
        ({1: 100.0, 2: 150.0, 4: 180.0, 8: 190.0, 16: 200.0}, {1: 110.0, 16: 220.0}, 16, 16),
        ({1: 20.0, 2: 19.0, 4: 18.0}, {1: 20.0, 2: 19.0}, 1, 1),
    ],
)
def test_a_batch_that_is_too_large_for_the_caches_is_run_with_portion(
    rates: dict[int, float], forwards: dict[int, float], portion: int, size: int
) -> None:
    found = with_portion(Tuning(workers=2, images_per_s=rates), forwards, (1, 2, 4, 8, 16))
    assert (found.portion, found.max_batch, found.images_per_s) == (portion, size, rates)


def test_a_measured_arrangement_uses_no_more_than_the_cores(model: Model) -> None:
    found = measure(model, model.run, Wishes(tuple(model.accelerations)))
    assert 1 <= found.workers * found.many.threads <= available_cores()
    assert found.lone.threads in (1, available_cores())
    assert {found.portion, found.max_batch} <= {1, 2, 4, 8, 16}
    assert found.rate == max(found.images_per_s.values()) > 0


@pytest.mark.parametrize(
    ("cores", "counts"),
    [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (6, [1, 2, 4, 6]), (16, [1, 2, 4, 8, 16]), (96, [1, 2, 4, 8, 16])],
)
def test_as_many_workers_are_tried_as_there_are_cores_and_not_very_many(cores: int, counts: list[int]) -> None:
    assert worker_counts(cores) == counts


@pytest.mark.parametrize(
    ("workers", "threads", "ways"),
    [
        (0, 0, [Way(1, 8), Way(2, 4), Way(4, 2), Way(8, 1)]),
        (1, 0, [Way(1, 8)]),
        (3, 0, [Way(3, 2)]),
        (0, 2, [Way(1, 2), Way(2, 2), Way(4, 2)]),
        (0, 16, [Way(1, 16)]),
        (16, 0, [Way(16, 1)]),
        (16, 4, [Way(16, 4)]),
    ],
)
def test_what_is_told_is_measured_as_it_will_run(workers: int, threads: int, ways: list[Way]) -> None:
    assert ways_for(Wishes((), workers=workers, threads=threads), cores=8) == ways


@pytest.mark.parametrize(("workers", "threads"), [(1, 0), (2, 1), (0, 1)])
def test_a_measured_arrangement_is_as_told(model: Model, workers: int, threads: int) -> None:
    found = measure(model, model.run, Wishes((), workers=workers, threads=threads))
    assert found.workers == workers or not workers
    assert {how.threads for how in found.hows} == {threads} or not threads
    if workers == 1:
        assert found.many.threads == available_cores()


@pytest.mark.parametrize("acceleration", ["onednn", "openvino"])
def test_an_acceleration_that_is_told_is_taken_whether_or_not_it_pays(model: Model, acceleration: str) -> None:
    found = measure(model, model.run, wishes_of(Settings(acceleration=acceleration), model))  # type: ignore[arg-type]
    assert {how.acceleration for how in found.hows} == {acceleration}


def test_an_acceleration_that_cannot_be_made_leaves_the_network_as_it_is(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "accelerate", lambda *way: False)
    found = measure(model, model.run, wishes_of(Settings(acceleration="onednn"), model))
    assert {how.acceleration for how in found.hows} == {"none"}


def test_wishes_are_what_the_settings_say(model: Model) -> None:
    assert wishes_of(Settings(), model) == Wishes(tuple(model.accelerations))
    assert wishes_of(Settings(acceleration="none", workers=3), model) == Wishes((), workers=3)
    assert wishes_of(Settings(acceleration="winograd", threads=2), model) == Wishes(("winograd",), False, 0, 2)


def test_measuring_leaves_the_threads_of_the_caller_as_they_are(model: Model) -> None:
    before = torch.get_num_threads()
    measure(model, model.run, Wishes(tuple(model.accelerations)))
    assert torch.get_num_threads() == before

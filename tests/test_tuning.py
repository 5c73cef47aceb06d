from dataclasses import replace
from pathlib import Path

import pytest
import torch

from conftest import tiny_bundle
from oodgate.model import Model
from oodgate.tuning import Tuning, available_cores, fastest, largest_good, measure, most_workers, tuned


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model(tiny_bundle(tmp_path_factory.mktemp("bundle")), "cpu")


@pytest.mark.parametrize(
    ("rates", "size"),
    [({1: 10.0}, 1), ({1: 10.0, 2: 9.4}, 2), ({1: 10.0, 2: 9.2}, 1), ({1: 5.0, 2: 9.0, 4: 10.0, 8: 9.5, 16: 8.0}, 8)],
)
def test_the_largest_batch_that_is_nearly_as_fast_is_taken(rates: dict[int, float], size: int) -> None:
    assert largest_good(rates) == size


@pytest.mark.parametrize(
    ("rates", "workers"), [({1: 10.0}, 1), ({1: 10.0, 2: 9.0}, 2), ({1: 10.0, 2: 8.0}, 1), ({1: 7.0, 2: 10.0, 4: 9}, 4)]
)
def test_more_workers_are_taken_unless_fewer_are_clearly_faster(rates: dict[int, float], workers: int) -> None:
    assert most_workers(rates) == workers


@pytest.mark.parametrize(
    ("rates", "chosen"),
    [
        ([{1: 10.0, 4: 40.0}, {1: 10.4, 4: 42.0}], "none"),
        ([{1: 10.0, 4: 40.0}, {1: 20.0, 4: 40.0}], "openvino"),
        ([{1: 10.0, 4: 40.0}, {1: 10.0, 4: 60.0}], "openvino"),
        ([{1: 10.0, 4: 40.0}, {1: 2.0, 4: 60.0}], "none"),
    ],
)
def test_what_accelerates_one_image_or_many_clearly_is_taken(rates: list[dict[int, float]], chosen: str) -> None:
    tunings = [Tuning(images_per_s=rates[0]), Tuning(acceleration="openvino", images_per_s=rates[1])]
    assert fastest(tunings).acceleration == chosen


def test_a_lone_forward_runs_on_a_copy_only_where_there_is_one() -> None:
    arranged = Tuning(threads=1, lone_threads=2, acceleration="openvino", lone_accelerated=True)
    assert (arranged.shared, arranged.alone) == ((1, True), (2, True))
    assert replace(arranged, acceleration="none").alone == (2, False)


def test_a_measured_arrangement_uses_no_more_than_the_cores(model: Model) -> None:
    found = measure(model, model.run, (16, 16))
    assert 1 <= found.workers * found.threads <= available_cores()
    assert found.lone_threads in (1, available_cores())
    assert found.max_batch in found.images_per_s
    assert found.rate == max(found.images_per_s.values()) > 0


def test_what_was_measured_is_remembered_for_the_same_network_only(model: Model, tmp_path: Path) -> None:
    first = tuned(model, model.run, (16, 16), "one", tmp_path)
    (path,) = tmp_path.iterdir()
    changed = path.read_text().replace(f'"max_batch": {first.max_batch}', '"max_batch": 77')
    path.write_text(changed)
    assert tuned(model, model.run, (16, 16), "one", tmp_path).max_batch == 77
    assert tuned(model, model.run, (16, 16), "other", tmp_path).max_batch != 77


@pytest.mark.parametrize("content", ["", "{}", "[]", "null", '{"workers": 1}', '{"images_per_s": 3}'])
def test_a_damaged_memory_is_measured_anew(model: Model, tmp_path: Path, content: str) -> None:
    tuned(model, model.run, (16, 16), "one", tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_text(content)
    assert isinstance(tuned(model, model.run, (16, 16), "one", tmp_path), Tuning)
    assert path.read_text() != content


def test_measuring_leaves_the_threads_of_the_caller_as_they_are(model: Model) -> None:
    before = torch.get_num_threads()
    measure(model, model.run, (16, 16))
    assert torch.get_num_threads() == before


def test_a_folder_that_cannot_be_written_costs_only_the_memory(model: Model, tmp_path: Path) -> None:
    occupied = tmp_path / "state"
    occupied.write_text("a file where the folder should be")
    assert tuned(model, model.run, (16, 16), "one", occupied).rate > 0
    assert occupied.is_file()

"""What was measured is remembered by network, and a memory that cannot be read or written costs only time."""

from dataclasses import replace
from pathlib import Path

import pytest

from conftest import tiny_bundle
from oodgate import tuning_memory
from oodgate.model import Model
from oodgate.tuning import Tuning, Wishes
from oodgate.tuning_memory import tuned

WISHES = Wishes(("openvino",))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model(tiny_bundle(tmp_path_factory.mktemp("bundle")), "cpu")


def remembered(model: Model, network: str, folder: Path, wishes: Wishes = WISHES) -> Tuning:
    return tuned(model, model.run, network, folder, wishes)


def test_what_was_measured_is_remembered_for_the_same_network_only(model: Model, tmp_path: Path) -> None:
    first = remembered(model, "one", tmp_path)
    (path,) = tmp_path.iterdir()
    changed = path.read_text().replace(f'"max_batch": {first.max_batch}', '"max_batch": 77')
    path.write_text(changed)
    assert remembered(model, "one", tmp_path).max_batch == 77
    assert remembered(model, "other", tmp_path).max_batch != 77


def test_other_wishes_and_another_processor_are_measured_anew(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remembered(model, "one", tmp_path)
    remembered(model, "one", tmp_path, replace(WISHES, workers=1))
    monkeypatch.setattr(tuning_memory, "processor", lambda: "another")
    remembered(model, "one", tmp_path)
    monkeypatch.setattr(tuning_memory, "available_cores", lambda: 77)
    remembered(model, "one", tmp_path)
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("content", ["", "{}", "[]", "null", '{"workers": 1}', '{"images_per_s": 3}'])
def test_a_damaged_memory_is_measured_anew(model: Model, tmp_path: Path, content: str) -> None:
    remembered(model, "one", tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_text(content)
    assert isinstance(remembered(model, "one", tmp_path), Tuning)
    assert path.read_text() != content


def test_a_folder_that_cannot_be_written_costs_only_the_memory(model: Model, tmp_path: Path) -> None:
    occupied = tmp_path / "state"
    occupied.write_text("a file where the folder should be")
    assert remembered(model, "one", occupied).rate > 0
    assert occupied.is_file()

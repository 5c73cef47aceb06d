"""The repository without HTTP: what it starts from, who holds which version, and what is left of a version."""

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path
from threading import Event
from threading import enumerate as enumerate_threads

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from conftest import random_picture
from oodgate.api import loading as module
from oodgate.api.loading import Opened, open_model
from oodgate.api.repository import Repository
from oodgate.errors import (
    Draining,
    LoadFailed,
    LoadInProgress,
    ModelNotFound,
    ModelUnavailable,
    ModelUnloaded,
    SetupError,
)
from oodgate.observability.metrics import Metrics
from oodgate.settings import Settings
from versions import install, tiny_version


@pytest.fixture(scope="module")
def bundles(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("versions")
    return {version: tiny_version(folder / version, image_folder, version) for version in ("1", "2")}


@pytest.fixture
def models(bundles: dict[str, Path], tmp_path: Path) -> Path:
    """A folder with version 1 of the tiny model."""
    install(bundles["1"], tmp_path / "models" / "tiny")
    return tmp_path / "models"


def opened(models: Path | None, **settings: object) -> Repository:
    given = {"device": "cpu", "allow_reload": True, "models": models, "max_batch": 16} | settings
    return Repository(Settings(**given), Metrics(CollectorRegistry()))  # type: ignore[arg-type]


def run(models: Path, steps: Callable[[Repository], Awaitable[None]], **settings: object) -> None:
    async def all_steps() -> None:
        repository = opened(models, **settings)
        try:
            await steps(repository)
        finally:
            await repository.close()
            assert repository.ended

    asyncio.run(all_steps())


def rename(folder: Path, name: str) -> None:
    manifest = folder / "bundle.json"
    manifest.write_text(manifest.read_text().replace('"tiny"', f'"{name}"'))


def picture() -> np.ndarray:
    return np.array(random_picture(0))


def test_the_default_is_the_only_model_or_the_one_that_is_named(models: Path) -> None:
    assert opened(models).default == "tiny"
    install(models / "tiny", models / "other")
    rename(models / "other", "other")
    with pytest.raises(SetupError, match=r"there are other, tiny; say which .* OODGATE_DEFAULT_MODEL"):
        opened(models)
    assert opened(models, default_model="other").default == "other"
    assert opened(models, bundle=models / "tiny").default == "tiny"
    with pytest.raises(SetupError, match="no model 'x' to be the default; there are other, tiny"):
        opened(models, default_model="x")


def test_a_broken_model_is_not_the_default_where_another_can_be(models: Path) -> None:
    (models / "broken").mkdir()
    (models / "broken" / "bundle.json").write_text("[]")
    assert opened(models).default == "tiny"


def test_a_folder_without_bundles_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="there is no bundle below"):
        opened(tmp_path)


def test_a_given_bundle_has_to_be_fit(models: Path, tmp_path: Path) -> None:
    for folder in (None, models):
        with pytest.raises(SetupError, match="there is no bundle in"):
            opened(folder, bundle=tmp_path / "nothing")


def test_a_second_folder_of_one_name_keeps_the_first_from_nothing(models: Path) -> None:
    install(models / "tiny", models / "twin")
    repository = opened(models, default_model="tiny")
    states = {entry.name: (entry.state, entry.folder.name) for entry in repository.entries}
    assert states == {"tiny": ("ready", "tiny"), "twin": ("unavailable", "twin")}
    assert repository.default == "tiny"
    reason = str(repository.entries[1].reason)
    assert "twin holds model 'tiny' as" in reason
    assert "oodgate export --name" in reason


def test_a_network_that_fails_in_its_own_way_is_its_own_trouble(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("oodgate.api.loading.Gate", fail)
    repository = opened(models)
    (entry,) = repository.entries
    assert (entry.name, entry.version, entry.state) == ("tiny", "1", "unavailable")
    assert "MemoryError" in str(entry.reason)


def test_a_request_keeps_its_version_and_the_version_ends_with_it(models: Path, bundles: dict[str, Path]) -> None:
    async def steps(repository: Repository) -> None:
        with repository.lease("tiny") as old:
            install(bundles["2"], models / "tiny")
            loading = asyncio.create_task(repository.load("tiny"))
            while repository.predictor("tiny") is old:
                await asyncio.sleep(0.01)
            with repository.lease("tiny", "2") as new:
                assert (await new.judge(picture)).verdict.terms.keys() == {"energy"}
            assert (await old.judge(picture)).verdict.terms.keys() == {"nap", "energy"}
            assert not loading.done()
            with pytest.raises(LoadInProgress, match="'tiny' is being loaded"):
                await repository.unload("tiny")
        assert (await loading).version == "2"
        assert not old.alive

    run(models, steps)


def test_the_network_of_a_version_that_ended_is_freed(models: Path) -> None:
    async def steps(repository: Repository) -> None:
        with repository.lease("tiny") as predictor:
            await predictor.judge(picture)
            network, gate = weakref.ref(predictor.gate.model._network), weakref.ref(predictor.gate)
        del predictor
        gc.disable()  # no cycle may keep it until the collector comes by
        try:
            await repository.load("tiny")
            assert (gate(), network()) == (None, None)
        finally:
            gc.enable()

    run(models, steps)


def test_while_a_model_loads_the_old_version_answers_and_another_load_is_refused(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = Event()

    def open_late(folder: Path, settings: Settings) -> Opened:
        assert go_on.wait(60)
        return open_model(folder, settings)

    async def steps(repository: Repository) -> None:
        monkeypatch.setattr(module, "open_model", open_late)
        (entry,) = repository.entries
        loading = asyncio.create_task(repository.load("tiny"))
        await asyncio.sleep(0)
        assert entry.state == "ready"
        for change in (repository.load, repository.unload):
            with pytest.raises(LoadInProgress):
                await change("tiny")
        with repository.lease("tiny") as predictor:
            await predictor.judge(picture)
        go_on.set()
        await loading

        await repository.unload("tiny")
        go_on.clear()
        loading = asyncio.create_task(repository.load("tiny"))
        await asyncio.sleep(0)
        assert entry.state == "loading"
        with pytest.raises(ModelUnavailable, match="being loaded"):
            repository.ready("tiny")
        go_on.set()
        assert (await loading).state == "ready"

    run(models, steps)


def test_a_failed_load_leaves_what_there_was(models: Path) -> None:
    async def steps(repository: Repository) -> None:
        (entry,) = repository.entries
        manifest = (models / "tiny" / "bundle.json").read_text()
        (models / "tiny" / "bundle.json").write_text("{")
        with pytest.raises(LoadFailed, match="is not JSON"):
            await repository.load("tiny")
        assert (entry.state, entry.version, entry.reason) == ("ready", "1", None)

        await repository.unload("tiny")
        with pytest.raises(LoadFailed, match="is not JSON"):
            await repository.load("tiny")
        assert (entry.state, entry.version) == ("unavailable", None)
        with pytest.raises(ModelUnavailable, match="is not JSON"):
            repository.ready("tiny")

        (models / "tiny" / "bundle.json").write_text(manifest)
        assert (await repository.load("tiny")).state == "ready"

    run(models, steps)


def test_a_folder_that_holds_another_model_now_is_not_taken(models: Path) -> None:
    async def steps(repository: Repository) -> None:
        rename(models / "tiny", "other")
        with pytest.raises(LoadFailed, match="holds model 'other' now, expected 'tiny'"):
            await repository.load("tiny")
        repository.ready("tiny")

    run(models, steps)


def test_a_folder_that_came_after_the_start_is_found_by_its_name(models: Path) -> None:
    async def steps(repository: Repository) -> None:
        with pytest.raises(ModelNotFound):
            await repository.load("late")
        install(models / "tiny", models / "late")
        rename(models / "late", "late")
        with pytest.raises(ModelNotFound):
            await repository.unload("late")
        assert (await repository.load("late")).state == "ready"
        assert [entry.name for entry in repository.entries] == ["late", "tiny"]

    run(models, steps)


@pytest.mark.parametrize("name", ["..", ".", "", "../models/tiny", "/etc"])
def test_a_name_is_never_a_path(models: Path, name: str) -> None:
    async def steps(repository: Repository) -> None:
        with pytest.raises(ModelNotFound):
            await repository.load(name)

    run(models, steps)


def test_an_unloaded_model_is_refused_and_can_be_loaded_again(models: Path) -> None:
    async def steps(repository: Repository) -> None:
        assert (await repository.unload("tiny")).state == "unloaded"
        with pytest.raises(ModelUnloaded):
            repository.ready("tiny")
        assert (await repository.load("tiny")).state == "ready"

    run(models, steps)


def test_evidence_of_drift_follows_its_threshold_and_each_file_has_one_writer(
    models: Path, bundles: dict[str, Path], tmp_path: Path
) -> None:
    async def steps(repository: Repository) -> None:
        def images() -> int:
            return int(repository.predictor("tiny").drift.alarm.state()["overall"]["images"])

        async def load(version: str) -> None:
            install(bundles[version], models / "tiny")
            assert (await repository.load("tiny")).version == version

        await repository.predictor("tiny").judge(picture)
        with repository.lease("tiny") as old:
            loading = asyncio.create_task(load("1"))
            while repository.predictor("tiny") is old:
                await asyncio.sleep(0.01)
            await old.judge(picture)
        await loading
        await repository.predictor("tiny").judge(picture)
        assert images() == 3
        await load("2")
        assert images() == 0
        await load("1")
        assert images() == 3
        await repository.unload("tiny")
        await load("1")
        assert images() == 3
        assert len([thread for thread in enumerate_threads() if thread.name == "oodgate-drift"]) == 1
        assert len(list((tmp_path / "state").iterdir())) == 2

    run(models, steps, state_dir=tmp_path / "state")
    assert not [thread for thread in enumerate_threads() if thread.name == "oodgate-drift"]


def test_a_version_that_is_not_served_is_not_found(models: Path) -> None:
    async def steps(repository: Repository) -> None:
        repository.ready("tiny", "1")
        with pytest.raises(ModelNotFound, match="served in version '1' and no other"):
            repository.ready("tiny", "2")

    run(models, steps)


def test_nothing_is_loaded_while_the_service_stops(models: Path) -> None:
    async def steps(repository: Repository) -> None:
        repository.draining = True
        for change in (repository.load, repository.unload):
            with pytest.raises(Draining):
                await change("tiny")

    run(models, steps)

"""Fit, search, choose and calibrate as one command does it, on a small network and real forwards."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import tiny_bundle
from oodgate.bundle import Bundle, Scorer, load_bundle, write_bundle
from oodgate.errors import CalibrationError
from oodgate.gate import Gate
from oodgate.model import Model
from oodgate.offline.account import account_of, inverted_families, report_of, with_evidence
from oodgate.offline.calibrate import CalibrationPlan, calibrate
from oodgate.offline.corruptions import CORRUPTIONS
from oodgate.offline.dataset import list_images
from oodgate.offline.features import Extractor, Progress
from oodgate.offline.fit import collect_statistics
from oodgate.offline.predict import predict_paths
from oodgate.offline.prepare import AUTO_CANDIDATES, Prepared, ScorerPlan, prepare
from oodgate.offline.search import count_evidence, pseudo_ood
from oodgate.offline.splits import Folders, Splits, split
from oodgate.offline.strangeness.catalogue import FAMILIES
from oodgate.scores.registry import METHODS, usable_scorers


@contextmanager
def no_bar(title: str, total: int) -> Iterator[Progress]:
    yield lambda count: None


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny network for 32-pixel images, the smallest that can be corrupted."""
    return tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny", side=32)


@pytest.fixture(scope="module")
def splits(image_folder: Path) -> Splits:
    return split(Folders(image_folder), (), fits=True, searches=True)


def plan(**changes: object) -> ScorerPlan:
    return ScorerPlan(**{"device": "cpu", "search_images": 30} | changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def automatic(bundle: Bundle, splits: Splits) -> Prepared:
    """Everything fitted, a scorer chosen."""
    return prepare(bundle, splits, plan(scorer="auto", w=None), no_bar)


def test_a_scorer_that_leaves_nothing_open_costs_nothing(bundle: Bundle, splits: Splits) -> None:
    prepared = prepare(bundle, Splits(None, None, splits.calibrate), plan(), no_bar)
    assert prepared.scorer == Scorer(name="nap-energy", w=0.4)
    assert prepared.bundle is bundle
    assert prepared.choice is prepared.evidence is None


def test_a_scorer_without_w_ignores_it(bundle: Bundle, splits: Splits) -> None:
    assert prepare(bundle, splits, plan(scorer="energy", w=0.4), no_bar).scorer == Scorer(name="energy", w=None)


def test_auto_fits_everything_and_chooses_a_candidate(automatic: Prepared) -> None:
    assert automatic.scorer.name in AUTO_CANDIDATES
    assert set(METHODS) <= set(usable_scorers(0.5, automatic.bundle.state))
    assert automatic.choice is not None
    assert {row.scorer for row in automatic.choice.candidates} == set(AUTO_CANDIDATES)


def test_auto_judges_on_every_corruption_and_every_family(automatic: Prepared) -> None:
    assert automatic.evidence is not None
    assert set(automatic.evidence.families) == {*CORRUPTIONS, *FAMILIES}
    assert len(automatic.evidence.known) == 30


def test_the_same_seed_gives_the_same_choice(bundle: Bundle, splits: Splits, automatic: Prepared) -> None:
    again = prepare(bundle, splits, plan(scorer="auto", w=None), no_bar)
    assert again.scorer == automatic.scorer
    for name, tensor in automatic.bundle.state.items():
        assert torch.equal(tensor, again.bundle.state[name]), name


def test_a_searched_w_is_on_the_grid_and_explained(bundle: Bundle, splits: Splits) -> None:
    prepared = prepare(bundle, splits, plan(w=None), no_bar)
    assert prepared.choice is not None
    assert prepared.choice.reasons
    assert prepared.scorer.name == "nap-energy"
    assert prepared.scorer.w in np.linspace(0, 1, 21).round(2)


def test_the_veto_compares_with_search_images_without_a_search(bundle: Bundle, splits: Splits) -> None:
    prepared = prepare(bundle, splits, plan(scorer="nap-veto-energy"), no_bar)
    assert prepared.scorer == Scorer(name="nap-veto-energy", w=0.4)
    assert prepared.evidence is not None
    assert prepared.evidence.families == {}


def test_a_fitted_scorer_without_training_images_is_refused(bundle: Bundle, splits: Splits) -> None:
    with pytest.raises(CalibrationError, match="--fit"):
        prepare(bundle, Splits(None, None, splits.calibrate), plan(scorer="knn"), no_bar)


def test_a_chosen_gate_serves_and_its_report_says_why(automatic: Prepared, splits: Splits, tmp_path: Path) -> None:
    calibrated = calibrate(
        automatic.bundle, splits.calibrate, CalibrationPlan(automatic.scorer, device="cpu"), lambda count: None
    )
    record = account_of(automatic, calibrated, {})
    write_bundle(tmp_path, with_evidence(calibrated.bundle, automatic), report_of(record))
    loaded = load_bundle(tmp_path)
    records = predict_paths(Gate(loaded, "cpu"), list(splits.calibrate.paths), lambda count: None)
    below = sum(row["decision"] == "reject" for row in records)
    assert below == loaded.calibration.guarantee.rank - 1
    assert json.loads((tmp_path / "report" / "calibration.json").read_text()) == record
    page = (tmp_path / "report" / "calibration.md").read_text()
    assert record["search"]["reasons"][0] in page
    assert all(f"| {name} |" in page for name in (*CORRUPTIONS, *FAMILIES))
    assert set(loaded.manifest.measures["families"]["fog"]) == {"nap", "energy", automatic.scorer.name}


def test_families_on_which_nap_ranks_worse_than_chance_are_named() -> None:
    assert inverted_families({"search": {"nap_auroc": {"fog": 49.9, "snow": 50.0}}}) == ["fog"]
    assert inverted_families({}) == []


def test_pseudo_ood_images_are_those_of_the_seed_and_counted(splits: Splits) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    first, again, other = (dict(pseudo_ood(images, seed)) for seed in (0, 0, 1))
    assert sum(len(made) for made in first.values()) + len(images) == count_evidence(len(images))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert any(not np.array_equal(first[name], other[name]) for name in first)


def test_statistics_come_from_the_features_of_every_image(bundle: Bundle, image_folder: Path) -> None:
    model, images = Model(bundle, "cpu"), list_images(image_folder)
    statistics = collect_statistics(bundle, model, images, 50, 0, lambda count: None)
    assert statistics.count == 200
    assert statistics.sample.shape == (50, 8)
    assert int(statistics.class_counts.sum()) == 200


def test_terms_from_the_cache_are_those_that_were_computed(bundle: Bundle, image_folder: Path, tmp_path: Path) -> None:
    paths, counted = list_images(image_folder).paths, []
    extractors = [Extractor(bundle, ["nap-energy"], {}, "cpu", cache=tmp_path) for _ in range(2)]
    first, again = (extractor.of_files(paths, counted.append) for extractor in extractors)
    assert all(torch.equal(first.terms[name], again.terms[name]) for name in ("nap", "energy"))
    assert torch.equal(first.predicted, again.predicted)
    assert counted[-1] == 200  # in one step: from the cache
    assert sum(counted) == 400


def test_another_setting_does_not_find_the_cache_of_the_first(
    bundle: Bundle, image_folder: Path, tmp_path: Path
) -> None:
    paths = list_images(image_folder).paths[:10]
    first, other = (
        Extractor(bundle, ["nap"], {"nap.eps": eps}, "cpu", cache=tmp_path).of_files(paths, lambda count: None)
        for eps in (1.0, 2.0)
    )
    assert not torch.equal(first.terms["nap"], other.terms["nap"])


def test_an_interrupted_fit_goes_on_where_it_was(
    bundle: Bundle, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oodgate.offline.cache.CHUNK", 50)
    model, images = Model(bundle, "cpu"), list_images(image_folder)

    def interrupt(count: int) -> None:
        done.append(count)
        if sum(done) > 120:
            raise KeyboardInterrupt

    done: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        collect_statistics(bundle, model, images, 50, 0, interrupt, tmp_path)
    forwarded: list[int] = []
    monkeypatch.setattr(model, "run", lambda pixels: forwarded.append(len(pixels)) or Model.run(model, pixels))
    resumed = collect_statistics(bundle, model, images, 50, 0, lambda count: None, tmp_path)
    whole = collect_statistics(bundle, Model(bundle, "cpu"), images, 50, 0, lambda count: None)
    assert sum(forwarded) == 100  # two chunks of four were there
    assert torch.equal(resumed.mean, whole.mean)
    assert torch.equal(resumed.sample, whole.sample)


def test_another_fit_does_not_find_the_cache_of_the_first(bundle: Bundle, image_folder: Path, tmp_path: Path) -> None:
    paths = list_images(image_folder).paths[:10]
    found = []
    for clip in (0.1, 0.2):
        fitted = Bundle(bundle.manifest, bundle.model, {**bundle.state, "react.clip": torch.tensor(clip)})
        found.append(Extractor(fitted, ["react"], {}, "cpu", cache=tmp_path).of_files(paths, lambda count: None))
    assert not torch.equal(found[0].terms["react"], found[1].terms["react"])


@pytest.mark.parametrize("lacking", ["last layer", "pooled features"])
def test_auto_leaves_out_what_the_network_cannot_have(bundle: Bundle, splits: Splits, lacking: str) -> None:
    manifest, state = bundle.manifest, dict(bundle.state)
    if lacking == "last layer":
        state.clear()
    else:
        attention = manifest.outputs.model_copy(update={"kind": "attention"})
        manifest = manifest.model_copy(update={"outputs": attention})
    poorer = Bundle(manifest, bundle.model, state)
    prepared = prepare(poorer, splits, plan(scorer="auto", w=None), no_bar)
    assert prepared.scorer.name in AUTO_CANDIDATES
    fitted = {"knn.bank", "mahalanobis.means"} if lacking == "last layer" else set()
    assert {
        name for name in prepared.bundle.state if name.startswith(("knn.b", "mahalanobis.m", "react", "dice"))
    } == fitted

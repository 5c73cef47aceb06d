"""The network of the paper's CIFAR tables on real images: what the paper reports, and what was measured before."""

from pathlib import Path

import pytest

from oodgate.bundle import Bundle
from oodgate.offline.dataset import list_images
from oodgate.offline.export import BundleName, export_bundle
from oodgate.offline.features import Extractor, ImageTerms
from oodgate.offline.measures import Measures, accuracy, measure

pytestmark = [pytest.mark.shared_data, pytest.mark.timeout(1800)]
SETS = {"id": "cifar10/test", "cifar100": "cifar100/test", "textures": "ood/textures"}


@pytest.fixture(scope="module")
def bundle(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    weights = data / "checkpoints" / "densenet-bc-100-12-cifar10.safetensors"
    out = tmp_path_factory.mktemp("paper") / "densenet"
    return export_bundle("densenet-bc-100-12", weights, data / "cifar10" / "classes.json", out, BundleName("densenet"))


@pytest.fixture(scope="module")
def terms(bundle: Bundle, image_folders: Path) -> dict[str, ImageTerms]:
    """Scores of every image of every set, from one forward each."""
    extractor = Extractor(bundle, ["nap-energy", "msp", "ash", "scale"], {}, "cpu")
    paths = {name: list_images(image_folders / folder).paths for name, folder in SETS.items()}
    return {name: extractor.of_files(files, lambda count: None) for name, files in paths.items()}


def measured(
    terms: dict[str, ImageTerms], bundle: Bundle, scorer: str, strange: str, w: float | None = None
) -> Measures:
    known, others = (terms[name].scores(scorer, w, bundle.state) for name in ("id", strange))
    return measure(known, others)


def test_the_network_has_the_papers_accuracy(bundle: Bundle, terms: dict[str, ImageTerms], image_folders: Path) -> None:
    labels = list_images(image_folders / SETS["id"], bundle.manifest.classes).labels
    assert labels is not None
    assert accuracy(terms["id"].predicted.numpy(), labels) == pytest.approx(94.54, abs=0.02)


def test_energy_against_cifar100_is_the_papers_row_to_the_digit(bundle: Bundle, terms: dict[str, ImageTerms]) -> None:
    found = measured(terms, bundle, "energy", "cifar100")
    assert found.fpr95 == pytest.approx(50.74, abs=0.05)
    assert found.auroc == pytest.approx(89.77, abs=0.02)


@pytest.mark.parametrize(
    ("scorer", "w", "fpr95", "auroc"),
    [("energy", None, 54.83, 87.47), ("nap", None, 19.58, 95.26), ("nap-energy", 0.4, 10.17, 98.15)],
)
def test_textures_are_found_as_measured(
    bundle: Bundle, terms: dict[str, ImageTerms], scorer: str, w: float | None, fpr95: float, auroc: float
) -> None:
    found = measured(terms, bundle, scorer, "textures", w)
    assert found.fpr95 == pytest.approx(fpr95, abs=0.2)
    assert found.auroc == pytest.approx(auroc, abs=0.05)


def test_msp_and_nap_energy_against_cifar100_are_as_measured(bundle: Bundle, terms: dict[str, ImageTerms]) -> None:
    assert measured(terms, bundle, "msp", "cifar100").fpr95 == pytest.approx(64.86, abs=0.1)
    assert measured(terms, bundle, "nap-energy", "cifar100", 0.4).fpr95 == pytest.approx(47.78, abs=0.1)


def test_real_checkpoints_of_the_cifar_resnets_export_with_their_accuracy(
    data: Path, image_folders: Path, tmp_path: Path
) -> None:
    weights, classes = data / "checkpoints" / "resnet20-cifar10.safetensors", data / "cifar10" / "classes.json"
    small = export_bundle("resnet20-cifar", weights, classes, tmp_path / "r20", BundleName("r20"))
    images = list_images(image_folders / SETS["id"], small.manifest.classes).take(range(0, 10_000, 10))
    found = Extractor(small, ["energy"], {}, "cpu").of_files(images.paths, lambda count: None)
    assert images.labels is not None
    assert accuracy(found.predicted.numpy(), images.labels) == pytest.approx(92.7, abs=2)

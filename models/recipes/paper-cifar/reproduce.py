"""The paper's CIFAR tables beside our own numbers, for the network that the paper used.

    python reproduce.py --network 10 --weights W.safetensors --classes classes.json --work FOLDER \
        --fit FOLDER --id FOLDER --ood textures=FOLDER --ood places=FOLDER --ood cifar100=FOLDER --out NAME.json

Writes FPR95 and AUROC in percent of every method alone and with NAP at the paper's own w (Table 11), ours and the
paper's (Tables 9, 10 and 12); `docs/measured.py` makes tables of it. WORK remembers the forwards, so that an
interrupted run goes on.
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oodgate.bundle import Bundle
from oodgate.model import Model
from oodgate.offline.dataset import list_images
from oodgate.offline.export import BundleName, export_bundle
from oodgate.offline.features import Extractor, ImageTerms
from oodgate.offline.fit import collect_statistics, fit, fitted_methods
from oodgate.offline.measures import accuracy, measure
from oodgate.scores.registry import METHODS, terms_of
from oodgate.scores.statistics import Statistics

BANK_SIZE = 50_000
PAPER = json.loads((Path(__file__).parent / "paper.json").read_text())
ROWS = (
    *("msp", "nap-msp", "energy", "nap-energy", "ash", "nap-ash", "dice", "nap-dice", "scale", "nap-scale"),
    *("react", "nap-react", "knn", "nap-knn", "nap", "mls", "gen", "fdbd", "mahalanobis"),
)


SETTINGS: dict[str, tuple[dict[str, float], dict[str, float]]] = {
    "10": ({}, {"react.percentile": 98, "scale.percentile": 95}),
    "100": ({"knn.k": 200}, {"knn.k": 200, "react.percentile": 98, "scale.percentile": 90, "ash.percentile": 90}),
}
"""For each network the settings of the literature, and those with which the paper's figures come out."""


@dataclass(frozen=True)
class Run:
    """What the command line asks for."""

    network: str
    weights: Path
    classes: Path
    work: Path
    fit: Path
    known: Path
    ood: dict[str, Path]
    out: Path


def exported(run: Run) -> tuple[Bundle, Statistics]:
    """The network as a bundle, and the statistics of the images to fit on."""
    name = BundleName(f"densenet-cifar{run.network}")
    bundle = export_bundle("densenet-bc-100-12", run.weights, run.classes, run.work / "bundle", name)
    images = list_images(run.fit, bundle.manifest.classes)
    return bundle, collect_statistics(
        bundle, Model(bundle), images, BANK_SIZE, 0, lambda count: None, run.work / "cache"
    )


def rows_of(
    scorers: Iterable[str], bundle: Bundle, terms: dict[str, ImageTerms], run: Run
) -> dict[str, dict[str, Any]]:
    """Ours and the paper's FPR95 and AUROC by scorer and set, each with the paper's w."""
    rows: dict[str, dict[str, Any]] = {}
    for scorer in scorers:
        paper = PAPER[run.network].get(scorer, {})
        w = paper.get("w")
        sets = {}
        for name in run.ood:
            known, strange = (terms[key].scores(scorer, w, bundle.state) for key in ("id", name))
            ours = measure(known, strange)
            sets[name] = {"ours": [round(ours.fpr95, 2), round(ours.auroc, 2)], "paper": paper.get(name)}
        rows[scorer] = {"w": w, "sets": sets}
    return rows


def measured(run: Run, bundle: Bundle, parameters: dict[str, float], scorers: Sequence[str]) -> dict[str, Any]:
    """What some scorers do with some settings: images and accuracy, and the rows."""
    extractor = Extractor(
        bundle, {name for scorer in scorers for name in terms_of(scorer)}, parameters, cache=run.work / "cache"
    )
    folders = {"id": run.known, **run.ood}
    images = {name: list_images(folder, bundle.manifest.classes) for name, folder in folders.items()}
    terms = {name: extractor.of_files(found.paths, lambda count: None) for name, found in images.items()}
    labels = images["id"].labels
    return {
        "images": {name: len(found) for name, found in images.items()},
        "accuracy": None if labels is None else round(accuracy(terms["id"].predicted.numpy(), labels), 2),
        "rows": rows_of(scorers, bundle, terms, run),
    }


def main(run: Run) -> None:
    literature, found = SETTINGS[run.network]
    bundle, statistics = exported(run)
    by_default, changed_bundle = (
        fit(bundle, fitted_methods(METHODS), statistics, chosen) for chosen in (literature, found)
    )
    changed = {key.partition(".")[0] for key in found.keys() - literature.keys()}
    record = {
        "network": run.network,
        "fitted_on": len(list_images(run.fit)),
        **measured(run, by_default, literature, ROWS),
        "settings": {key: value for key, value in found.items() if key not in literature},
        "rows_with_settings": measured(
            run, changed_bundle, found, [name for name in ROWS if set(terms_of(name)) & changed]
        )["rows"],
    }
    run.out.write_text(json.dumps(record, indent=1) + "\n")


def parse() -> Run:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=("10", "100"), required=True, help="classes of the network")
    for name in ("weights", "classes", "work", "fit", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--id", type=Path, required=True, dest="known")
    parser.add_argument("--ood", action="append", required=True, metavar="NAME=FOLDER")
    arguments = vars(parser.parse_args())
    arguments["ood"] = {name: Path(folder) for name, _, folder in (entry.partition("=") for entry in arguments["ood"])}
    return Run(**arguments)


if __name__ == "__main__":
    main(parse())

"""Versions of the tiny model that answer differently, so that a mixed answer shows."""

from dataclasses import replace
from pathlib import Path
from shutil import copytree

import torch

from conftest import TinyNetwork, calibrated, tiny_bundle
from oodgate.bundle import Scorer, write_bundle

SCORERS = {"1": Scorer(name="nap-energy", w=0.4), "2": Scorer(name="energy")}


def tiny_version(folder: Path, images: Path, version: str, **manifest: object) -> Path:
    """A calibrated bundle of the tiny network with weights and scorer of its version."""
    torch.manual_seed(int(version))
    bundle = tiny_bundle(folder, TinyNetwork())
    changed = bundle.manifest.model_copy(update={"version": version, **manifest})
    write_bundle(folder, replace(bundle, manifest=changed))
    calibrated(folder, images, scorer=SCORERS[version])
    return folder


def install(bundle: Path, folder: Path) -> None:
    """Put the files of one bundle in the place of another's."""
    copytree(bundle, folder, dirs_exist_ok=True)

"""Folders -> gates: which folders hold models, and one sentence where a model cannot be served."""

from dataclasses import dataclass
from pathlib import Path

import structlog

from oodgate.bundle import MANIFEST, load_bundle
from oodgate.errors import SetupError
from oodgate.gate import Gate
from oodgate.settings import Settings

log = structlog.stdlib.get_logger("oodgate")


@dataclass(frozen=True)
class Opened:
    """What a folder holds: a gate, or the reason why there is none."""

    name: str  # the manifest's, or the folder's where the manifest cannot be read
    version: str | None
    gate: Gate | None
    reason: str | None


def model_folders(settings: Settings) -> list[Path]:
    """The folders to serve, that of the default first where it is known; raises SetupError where there are none."""
    folders = [settings.bundle] if settings.serves_bundle else []
    below = bundles_below(settings.models) if settings.models else []
    folders += [folder for folder in below if folder.resolve() not in [own.resolve() for own in folders]]
    if not folders:
        raise SetupError(
            f"there is no bundle below {settings.models}; name a folder of folders that `oodgate export` wrote"
        )
    return folders


def bundles_below(models: Path) -> list[Path]:
    """Every folder directly below that has a manifest, by name."""
    return sorted(path.parent for path in models.glob(f"*/{MANIFEST}"))


def open_model(folder: Path, settings: Settings) -> Opened:
    """Read, verify and warm up the bundle of a folder; never raises, since one model's trouble is no other's."""
    name, version = folder.resolve().name, None
    try:
        bundle = load_bundle(folder)
        name, version = bundle.manifest.name, bundle.manifest.version
        return Opened(name, version, Gate(bundle, settings.device, settings.precision), None)
    except SetupError as error:
        reason = str(error)
    except Exception as error:  # a foreign network fails in its own ways, and memory may not suffice
        log.exception("a bundle cannot be loaded", folder=str(folder))
        reason = f"the bundle in {folder} cannot be loaded ({type(error).__name__}); the log has the whole of it"
    return Opened(name, version, None, reason)

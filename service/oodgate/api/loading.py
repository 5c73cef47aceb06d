"""Folders -> gates: which folders hold models, and one sentence where a model cannot be served."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import structlog

from oodgate.acceleration import How
from oodgate.bundle import MANIFEST, Bundle, load_bundle
from oodgate.errors import SetupError
from oodgate.gate import Gate, check_decoding
from oodgate.model import Model
from oodgate.pixels import opener_of
from oodgate.settings import Settings
from oodgate.tuning import Tuning, Wishes
from oodgate.tuning_memory import tuned

log = structlog.stdlib.get_logger("oodgate")


@dataclass(frozen=True)
class Opened:
    """What a folder holds: a gate, or the reason why there is none."""

    name: str  # the manifest's, or the folder's where the manifest cannot be read
    version: str | None
    gate: Gate | None
    reason: str | None


class Loader:
    """Opens models while the service runs, one at a time.

    Each needs memory for one more network, and torch's warnings are those of the process.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="oodgate-load")

    async def open(self, folder: Path, name: str) -> Opened:
        """What the folder holds now; there is no gate where it is not the model of this name."""
        opened = await asyncio.get_running_loop().run_in_executor(self._thread, open_model, folder, self._settings)
        if opened.gate is None or opened.name == name:
            return opened
        reason = (
            f"{folder} holds model '{opened.name}' now, expected '{name}'; a bundle is served by the name that it has "
            "from `oodgate export --name`"
        )
        return Opened(opened.name, opened.version, None, reason)

    def close(self) -> None:
        """End the thread when it has opened what it is at."""
        self._thread.shutdown(wait=False, cancel_futures=True)


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
        bundle = load_bundle(folder, settings.trusted_keys)
        name, version = bundle.manifest.name, bundle.manifest.version
        gate = Gate(bundle, settings.device, settings.precision)
        check_opener(gate, settings)
        gate.tuning = arrange(bundle, gate, settings)
        return Opened(name, version, gate, None)
    except SetupError as error:
        reason = str(error)
    except Exception as error:  # a foreign network fails in its own ways, and memory may not suffice
        log.exception("a bundle cannot be loaded", folder=str(folder))
        reason = f"the bundle in {folder} cannot be loaded ({type(error).__name__}); the log has the whole of it"
    return Opened(name, version, None, reason)


def check_opener(gate: Gate, settings: Settings) -> None:
    """Raise SetupError where images cannot be decoded where the settings say, or the threshold may not hold then."""
    if settings.decoding == "device":
        check_decoding(gate.manifest.name, gate.calibration, gate.model.device)
        opener_of(gate.manifest.preprocessing, settings.decoding, gate.model.device)


def arrange(bundle: Bundle, gate: Gate, settings: Settings) -> Tuning:
    """How the gate's network is run: as the settings say, and measured where they leave it open."""
    if settings.max_batch:
        return _as_told(gate, settings)
    found = tuned(gate.model, gate.score, bundle.network_hash, settings.state_dir, wishes_of(settings, gate.model))
    log.info(
        "measured",
        model=bundle.manifest.name,
        workers=found.workers,
        batch=found.max_batch,
        portion=found.portion,
        **{name: " ".join(map(str, how)) for name, how in (("many", found.many), ("one", found.lone))},
    )
    return _accelerated(gate, found)


def wishes_of(settings: Settings, model: Model) -> Wishes:
    """What the settings decide, and what they leave to be tried on a model."""
    if settings.acceleration == "auto":
        return Wishes(tuple(model.accelerations), workers=settings.workers, threads=settings.threads)
    plain = settings.acceleration == "none"
    return Wishes(() if plain else (settings.acceleration,), plain, settings.workers, settings.threads)


def _as_told(gate: Gate, settings: Settings) -> Tuning:
    """Without any measuring: one worker and the network as it is, where the settings do not say otherwise."""
    acceleration = "none" if settings.acceleration == "auto" else settings.acceleration
    how = How(settings.threads, acceleration)
    return _accelerated(gate, Tuning(settings.workers or 1, settings.max_batch, how, how, how))


def _accelerated(gate: Gate, tuning: Tuning) -> Tuning:
    """The arrangement with copies of the network for each worker, or without those that cannot be made."""
    made = gate.model.settle(tuning.hows, tuning.workers, tuning.max_batch)
    return tuning.change(lambda how: how if how in made else How(how.threads))

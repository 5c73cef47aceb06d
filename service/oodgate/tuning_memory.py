"""What was measured of a network on this machine, kept in the state folder for the starts to come."""

import hashlib
import json
from dataclasses import asdict, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import structlog
import torch

from oodgate.acceleration import How
from oodgate.cores import available_cores, processor
from oodgate.model import Model
from oodgate.rates import Work
from oodgate.tuning import BATCH_COST_S, GOOD_ENOUGH, Tuning, Wishes, measure

log = structlog.stdlib.get_logger("oodgate")


def tuned(model: Model, work: Work, network_hash: str, folder: Path | None, wishes: Wishes) -> Tuning:
    """The fastest way; measured once and remembered in a folder, if there is one, by network, device and wishes."""
    path = None if folder is None else folder / f"tuning-{_identity(model, network_hash, wishes)}.json"
    if path and (known := _read(path)):
        return known
    found = measure(model, work, wishes)
    if path:
        _remember(path, found)
    return found


def _remember(path: Path, found: Tuning) -> None:
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(asdict(found)))
        partial.replace(path)
    except OSError as error:  # a full disk costs a second at every start, not the service
        log.warning("what was measured cannot be kept", path=str(path), reason=str(error))


def _identity(model: Model, network_hash: str, wishes: Wishes) -> str:
    on_gpu = model.device.type == "cuda"
    device = torch.cuda.get_device_name(model.device) if on_gpu else (processor(), available_cores())
    rule = (GOOD_ENOUGH, BATCH_COST_S, *(one.name for one in fields(Tuning)))  # another may choose otherwise
    facts = (network_hash, device, model.precision, *map(_version, ("torch", "openvino")), wishes, rule)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _read(path: Path) -> Tuning | None:
    try:
        record = json.loads(path.read_text())
        record["images_per_s"] = {int(size): float(rate) for size, rate in record["images_per_s"].items()}
        record |= {name: How(*record[name]) for name in ("many", "few", "lone")}
        return Tuning(**record)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # absent or damaged: it is measured anew

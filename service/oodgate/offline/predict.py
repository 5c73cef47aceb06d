"""Image files -> verdicts without a server, through the gate that serves."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from oodgate.errors import RequestError
from oodgate.gate import Gate, Verdict
from oodgate.images.opening import HostOpener
from oodgate.offline.dataset import list_images, open_files
from oodgate.offline.features import BATCH, Progress


def predict_paths(gate: Gate, paths: Sequence[Path], progress: Progress) -> list[dict[str, Any]]:
    """One record a file, in order; folders stand for the images below them. One that has no verdict has a `problem`."""
    files = [file for path in paths for file in (list_images(path).paths if path.is_dir() else [path])]
    opener = HostOpener(gate.manifest.preprocessing)
    records: list[dict[str, Any]] = []
    for start in range(0, len(files), BATCH):
        batch = files[start : start + BATCH]
        records.extend(_record(gate, *found) for found in zip(batch, _judge(gate, batch, opener), strict=True))
        progress(len(batch))
    return records


def _judge(gate: Gate, files: Sequence[Path], opener: HostOpener) -> list[Verdict | RequestError]:
    opened = open_files(files, opener)
    pixels = [one.pixels for one in opened if not isinstance(one, RequestError)]
    verdicts = iter(gate.judge(pixels) if pixels else [])
    return [one if isinstance(one, RequestError) else next(verdicts) for one in opened]


def _record(gate: Gate, file: Path, verdict: Verdict | RequestError) -> dict[str, Any]:
    if isinstance(verdict, RequestError):
        return {"path": str(file), "problem": str(verdict)}
    best = int(verdict.probabilities.argmax())
    return {
        "path": str(file),
        "decision": "accept" if verdict.accepted else "reject",
        "class": gate.manifest.classes[best],
        "probability": float(verdict.probabilities[best]),
        "score": verdict.score,
        "p_value": verdict.p_value,
        "terms": verdict.terms,
    }

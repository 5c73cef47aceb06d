"""Image files -> verdicts without a server, through the gate that serves."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from oodgate.gate import Gate, Verdict
from oodgate.images.opening import HostOpener
from oodgate.offline.dataset import list_images, read_images
from oodgate.offline.features import BATCH, Progress


def predict_paths(gate: Gate, paths: Sequence[Path], progress: Progress) -> list[dict[str, Any]]:
    """One record a file, in order; folders stand for the images below them. Raises what the gate says of an image."""
    files = [file for path in paths for file in (list_images(path).paths if path.is_dir() else [path])]
    opener = HostOpener(gate.manifest.preprocessing)
    records: list[dict[str, Any]] = []
    for start in range(0, len(files), BATCH):
        batch = files[start : start + BATCH]
        verdicts = gate.judge(read_images(batch, opener))
        records.extend(_records(gate, batch, verdicts))
        progress(len(batch))
    return records


def _records(gate: Gate, files: Iterable[Path], verdicts: Iterable[Verdict | Exception]) -> Iterable[dict[str, Any]]:
    for file, verdict in zip(files, verdicts, strict=True):
        if isinstance(verdict, Exception):
            raise verdict
        best = int(verdict.probabilities.argmax())
        yield {
            "path": str(file),
            "decision": "accept" if verdict.accepted else "reject",
            "class": gate.manifest.classes[best],
            "probability": float(verdict.probabilities[best]),
            "score": verdict.score,
            "p_value": verdict.p_value,
            "terms": verdict.terms,
        }

"""Verdicts -> the body of a v2 inference answer: JSON, followed by the bytes of the tensors that were asked for so."""

from collections.abc import Sequence
from struct import pack
from typing import Any

import numpy as np
import orjson

from oodgate.api.inference_schemas import InferenceRequest
from oodgate.bundle import Manifest
from oodgate.gate import Verdict

OUTPUTS = {"class": "BYTES", "probability": "FP32", "ood_score": "FP32", "p_value": "FP32", "accept": "BOOL"}
"""Datatype of every output; each has one value for each image."""

_DTYPES = {"FP32": "<f4", "BOOL": "?"}


def write_inference(
    request: InferenceRequest, manifest: Manifest, verdicts: Sequence[Verdict]
) -> tuple[bytes, int | None]:
    """The body, and the length of its JSON where bytes follow it."""
    columns = _columns(manifest, verdicts)
    outputs, tensors = [], []
    for name, as_bytes in _wanted(request).items():
        output: dict[str, Any] = {"name": name, "datatype": OUTPUTS[name], "shape": [len(verdicts)]}
        if as_bytes:
            tensors.append(_packed(columns[name], OUTPUTS[name]))
            output["parameters"] = {"binary_data_size": len(tensors[-1])}
        else:
            output["data"] = columns[name]
        outputs.append(output)
    answer = {"model_name": manifest.name, "model_version": manifest.version, "outputs": outputs}
    text = orjson.dumps(answer if request.id is None else answer | {"id": request.id})
    return b"".join([text, *tensors]), len(text) if tensors else None


def _wanted(request: InferenceRequest) -> dict[str, bool]:
    """The outputs in their order, and whether each is sent as bytes."""
    by_default = request.parameters.binary_data_output
    if not request.outputs:
        return dict.fromkeys(OUTPUTS, by_default)
    chosen = [(output.name, output.parameters.binary_data) for output in request.outputs]
    return {name: by_default if as_bytes is None else as_bytes for name, as_bytes in chosen}


def _columns(manifest: Manifest, verdicts: Sequence[Verdict]) -> dict[str, list[Any]]:
    return {
        "class": [manifest.classes[verdict.predicted] for verdict in verdicts],
        "probability": [float(verdict.probabilities[verdict.predicted]) for verdict in verdicts],
        "ood_score": [verdict.score for verdict in verdicts],
        "p_value": [verdict.p_value for verdict in verdicts],
        "accept": [verdict.accepted for verdict in verdicts],
    }


def _packed(values: list[Any], datatype: str) -> bytes:
    if datatype == "BYTES":
        texts = [value.encode() for value in values]
        return b"".join(pack("<I", len(text)) + text for text in texts)
    return np.array(values, _DTYPES[datatype]).tobytes()

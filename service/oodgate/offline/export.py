"""A trained classifier -> bundle: build the network, find its activation, write it, hold it against the original.

The steps are below `exporting/`, and called here in their order.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from oodgate import __version__
from oodgate.bundle import FORMAT_VERSION, Bundle, Engine, Manifest, load_bundle, write_bundle
from oodgate.errors import BundleError, ExportError
from oodgate.images.preprocess import Preprocessing
from oodgate.offline.exporting.building import build_model, classifier_of
from oodgate.offline.exporting.classes import read_classes
from oodgate.offline.exporting.comparison import compare_engines
from oodgate.offline.exporting.exposure import Exposed, adopt, expose
from oodgate.offline.exporting.sources import Source, open_source
from oodgate.offline.exporting.transforms import choose_preprocessing, parse_size
from oodgate.offline.exporting.weights import load_weights

_NO_CLASSIFIER = (
    "the logits are no linear function of the pooled activation; react, dice, ash, scale and fdbd are not available"
)
_NATIVE_CODE = (
    "the network is native code, compiled for the processor of the machine that exported it; serve it on its like, and "
    "only where you trust who made it"
)
_RANDOM = "the weights are random; this bundle shows nothing but how it runs"


@dataclass(frozen=True)
class BundleName:
    """What a bundle is called, and what is known about where its network came from."""

    name: str
    version: str = "1"
    provenance: Path | None = None  # a JSON object


@dataclass(frozen=True)
class ExportPlan:
    """What the options of `oodgate export` say beyond the source; None leaves it to the source."""

    input_size: str | None = None  # 3xHEIGHTxWIDTH
    activation: str | None = None  # path of the layer
    preprocess: str | None = None
    engine: Engine | None = None
    random_weights: bool = False
    compare: bool = False
    replaces: bool = False  # a calibrated bundle


def export_bundle(
    source_name: str,
    weights: Path | None,
    classes_file: Path,
    out: Path,
    called: BundleName,
    plan: ExportPlan = ExportPlan(),
) -> Bundle:
    """Write an uncalibrated bundle of a network.

    Raises ExportError where source, weights, classes and preprocessing do not fit together, where there is no
    activation to read, where the exported network answers otherwise than the original, or where a calibrated bundle
    would be lost.
    """
    if not plan.replaces:
        _check_place(out)
    classes = read_classes(classes_file)
    size = None if plan.input_size is None else parse_size(plan.input_size)
    source = open_source(source_name, len(classes.names), size)
    preprocessing = choose_preprocessing(plan.preprocess, source.preprocessing, size)
    engine = _choose_engine(source, plan.engine)
    _fill(source, weights, plan.random_weights)
    exposed = _expose(source, len(classes.names), preprocessing.crop, plan.activation)
    model, outputs = build_model(exposed, engine, preprocessing.crop)
    state = classifier_of(exposed, preprocessing.crop)
    manifest = _manifest(
        name=called.name,
        version=called.version,
        classes=classes.names,
        class_ids=classes.ids,
        parents=classes.parents,
        preprocessing=preprocessing,
        engine=engine,
        outputs=outputs,
        notices=(*exposed.notices, *_notices(source, weights, engine, exposed, state), *_cuts(preprocessing)),
        provenance={
            "source": source_name,
            "activation": exposed.reason,
            "oodgate": __version__,
            "torch": str(torch.__version__),
            **({} if called.provenance is None else {"training": read_record(called.provenance)}),
            **({} if not plan.compare else {"engines": _compare(exposed, source, preprocessing.crop)}),
        },
    )
    return write_bundle(out, Bundle(manifest, model, state), report={})


def _check_place(out: Path) -> None:
    with suppress(BundleError):  # there is none, or none that could be served
        if load_bundle(out).manifest.calibration:
            raise ExportError(
                f"{out} holds a calibrated bundle, whose threshold would be lost; export into another folder, or add "
                "--replace"
            )


def read_record(path: Path) -> dict[str, Any]:
    """The JSON object of a file."""
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ExportError(f"the provenance {path} cannot be read: {error}; give a file with one JSON object") from error
    if not isinstance(record, dict):
        raise ExportError(f"the provenance {path} holds no JSON object; give a file with one")
    return record


def _choose_engine(source: Source, wanted: Engine | None) -> Engine:
    if wanted is None:
        return source.engines[0]
    if wanted not in source.engines:
        raise ExportError(f"this file runs on {' and '.join(source.engines)} and not on {wanted}; choose one of them")
    return wanted


def _fill(source: Source, weights: Path | None, random_weights: bool) -> None:
    """Put the weights where they belong, and refuse a network without any."""
    if weights is not None:
        if source.is_complete:
            raise ExportError("a TorchScript or torch.export file brings its weights; leave --weights out")
        load_weights(source.network, weights)
    elif source.is_random and not random_weights:
        raise ExportError(
            "the network's weights would be random; give its trained ones with --weights, or load them in the function "
            "that builds it, or add --random-weights to try out how it runs"
        )
    if not source.is_complete:
        source.network.eval().float()
    for parameter in source.network.parameters():
        parameter.requires_grad_(False)


def _expose(source: Source, classes: int, size: tuple[int, int], layer: str | None) -> Exposed:
    if not source.is_complete:
        return expose(source.network, classes, size, layer)
    if layer is not None:
        raise ExportError("a TorchScript or torch.export file answers its activation itself; leave --activation out")
    return adopt(source.network, classes, size)


def _notices(
    source: Source, weights: Path | None, engine: Engine, exposed: Exposed, state: Mapping[str, Tensor]
) -> Iterator[str]:
    if not state and exposed.kind == "map":
        yield _NO_CLASSIFIER
    if engine == "aotinductor":
        yield _NATIVE_CODE
    if source.is_random and weights is None:
        yield _RANDOM


def _cuts(preprocessing: Preprocessing) -> Iterator[str]:
    height, width = preprocessing.crop
    if height != width and isinstance(preprocessing.resize, int):
        yield (
            f"the shorter side of every image becomes {preprocessing.resize} pixels and of that the centre is read, "
            f"{height} x {width}: what lies above and below or beside it, the network never sees; if it was trained on "
            f"whole images in that shape, give --preprocess resize={height}x{width}"
        )


def _manifest(**fields: Any) -> Manifest:
    try:
        return Manifest(format_version=FORMAT_VERSION, **fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "classes"
        raise ExportError(
            f"the bundle cannot be described, '{where}': {first['msg']}; correct what was given"
        ) from error


def _compare(exposed: Exposed, source: Source, size: tuple[int, int]) -> dict[str, Any]:
    return {name: asdict(speed) for name, speed in compare_engines(exposed.network, size, source.engines).items()}

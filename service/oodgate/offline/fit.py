"""Training images -> the tensors that fitted scores need, in one pass and constant memory."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from oodgate.bundle import Bundle, Manifest
from oodgate.errors import CalibrationError
from oodgate.images.opening import HostOpener
from oodgate.model import Model
from oodgate.offline.cache import Cache, chunks_of, key_of
from oodgate.offline.dataset import ImageFolder, read_batches
from oodgate.offline.features import BATCH, Progress
from oodgate.scores.registry import METHODS, Parameters, fit_methods, needs_of_network
from oodgate.scores.statistics import Statistics, StatisticsAccumulator


def fitted_methods(methods: Iterable[str]) -> list[str]:
    """Those of the methods that have to be fitted."""
    return [name for name in methods if METHODS[name].fit is not None]


def fittable_methods(bundle: Bundle) -> list[str]:
    """The methods to fit for which the bundle's network has what they read."""
    return [
        name
        for name in fitted_methods(METHODS)
        if not _lacks_features(bundle.manifest, name) and bundle.state.keys() >= set(needs_of_network(name))
    ]


def check_methods(manifest: Manifest, methods: Iterable[str]) -> None:
    """Raise CalibrationError for a method that cannot read what the bundle's network answers."""
    for name in methods:
        if _lacks_features(manifest, name):
            raise CalibrationError(
                f"score '{name}' reads pooled features and bundle '{manifest.name}' exports a transformer's attention; "
                "choose one of nap, energy, msp, mls, gen and their combinations"
            )


def _lacks_features(manifest: Manifest, method: str) -> bool:
    return manifest.outputs.kind == "attention" and METHODS[method].reads_features


def collect_statistics(
    bundle: Bundle,
    model: Model,
    images: ImageFolder,
    bank_size: int,
    seed: int,
    progress: Progress,
    cache: Path | None = None,
) -> Statistics:
    """Run the network over training images and keep statistics of the pooled features.

    Classes are the images' labels where there are any, the predicted ones elsewhere. With a `cache` folder an
    interrupted run goes on where it was.
    """
    outputs = bundle.manifest.outputs
    statistics = StatisticsAccumulator(outputs.activation[0], outputs.logits[0], bank_size, seed)
    made_by = (bundle.network_hash, bundle.manifest.preprocessing, model.precision)
    memory = Cache(cache, repr(("features", *made_by)))
    done = 0
    for paths in chunks_of(images.paths):
        found = memory.find(key_of(paths))
        if found is None:
            found = _features_of(bundle, model, paths, progress)
            memory.keep(key_of(paths), found)
        else:
            progress(len(paths))
        known = None if images.labels is None else torch.tensor(images.labels[done : done + len(paths)])
        statistics.add(found["features"], found["predicted"] if known is None else known)
        done += len(paths)
    return statistics.finish()


def _features_of(bundle: Bundle, model: Model, paths: Sequence[Path], progress: Progress) -> dict[str, Tensor]:
    features, predicted = [], []
    for pixels in read_batches(paths, HostOpener(bundle.manifest.preprocessing), BATCH):
        forward = model.run(pixels)
        features.append(forward.features.cpu().clone())
        predicted.append(forward.logits.argmax(1).cpu().clone())
        progress(len(pixels))
    return {"features": torch.cat(features), "predicted": torch.cat(predicted)}


def fit(bundle: Bundle, methods: Iterable[str], statistics: Statistics, parameters: Parameters) -> Bundle:
    """The bundle with the fitted tensors of `methods` in its state; raises CalibrationError for one that cannot be."""
    methods = tuple(methods)
    check_methods(bundle.manifest, methods)
    fitted = fit_methods(methods, statistics, bundle.state, parameters)
    return Bundle(bundle.manifest, bundle.model, {**bundle.state, **fitted})

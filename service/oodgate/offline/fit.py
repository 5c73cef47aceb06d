"""Training images -> the tensors that fitted scores need, in one pass and constant memory."""

from collections.abc import Iterable

import torch

from oodgate.bundle import Bundle
from oodgate.model import Model
from oodgate.offline.dataset import ImageFolder, read_batches
from oodgate.offline.features import BATCH, Progress
from oodgate.scores.registry import METHODS, Parameters, fit_methods
from oodgate.scores.statistics import Statistics, StatisticsAccumulator


def fitted_methods(methods: Iterable[str]) -> list[str]:
    """Those of the methods that have to be fitted."""
    return [name for name in methods if METHODS[name].fit is not None]


def collect_statistics(
    bundle: Bundle, model: Model, images: ImageFolder, bank_size: int, seed: int, progress: Progress
) -> Statistics:
    """Run the network over training images and keep statistics of the pooled features.

    Classes are the images' labels where there are any, the predicted ones elsewhere.
    """
    outputs = bundle.manifest.outputs
    statistics = StatisticsAccumulator(outputs.activation[0], outputs.logits[0], bank_size, seed)
    done = 0
    for pixels in read_batches(images.paths, bundle.manifest.preprocessing, BATCH):
        forward = model.run(pixels)
        known = None if images.labels is None else torch.tensor(images.labels[done : done + len(pixels)])
        statistics.add(forward.features.cpu(), forward.logits.argmax(1).cpu() if known is None else known)
        done += len(pixels)
        progress(len(pixels))
    return statistics.finish()


def fit(bundle: Bundle, methods: Iterable[str], statistics: Statistics, parameters: Parameters) -> Bundle:
    """The bundle with the fitted tensors of `methods` in its state."""
    fitted = fit_methods(methods, statistics, bundle.state, parameters)
    return Bundle(bundle.manifest, bundle.model, {**bundle.state, **fitted})

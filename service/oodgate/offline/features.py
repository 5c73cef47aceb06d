"""One forward for every image of a folder; what the scores need of it is kept, the activations are not."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from oodgate.images.preprocess import Preprocessing
from oodgate.model import Model
from oodgate.offline.dataset import ImageFolder, read_batches
from oodgate.scores.registry import Parameters, State, clamped_terms, combine_terms, compute_terms, terms_of

BATCH = 100

Progress = Callable[[int], None]
"""Called with the number of images done since the last call."""


@dataclass(frozen=True)
class FolderTerms:
    """The methods' scores of a folder's images, and the classes predicted for them."""

    terms: dict[str, NDArray[np.float32]]  # (N,) each
    predicted: NDArray[np.int64]  # (N,)

    def scores(self, scorer: str, w: float | None) -> NDArray[np.float32]:
        """The scores (N,) of a scorer."""
        terms = {name: torch.from_numpy(self.terms[name]) for name in terms_of(scorer)}
        return combine_terms(scorer, w, terms).numpy()

    def clamped(self, scorer: str) -> int:
        """Number of images for which a scorer had to clamp a term."""
        terms = {name: torch.from_numpy(self.terms[name]) for name in terms_of(scorer)}
        return int(clamped_terms(scorer, terms).sum())


def compute_folder(
    model: Model,
    state: State,
    preprocessing: Preprocessing,
    folder: ImageFolder,
    scorers: Iterable[str],
    parameters: Parameters,
    progress: Progress,
) -> FolderTerms:
    """Run the network over a folder and keep the terms of `scorers`."""
    methods = sorted({name for scorer in scorers for name in terms_of(scorer)})
    on_device = {name: tensor.to(model.device) for name, tensor in state.items()}
    rows, predicted = [], []
    for pixels in read_batches(folder.paths, preprocessing, BATCH):
        forward = model.run(pixels)
        with torch.inference_mode():
            terms = compute_terms(methods, parameters, forward, on_device)
            rows.append(torch.stack(list(terms.values()), 1).cpu())  # (n, methods)
            predicted.append(forward.logits.argmax(1).cpu())
        progress(len(pixels))
    table = torch.cat(rows).numpy()
    columns = {name: np.ascontiguousarray(table[:, column]) for column, name in enumerate(methods)}
    return FolderTerms(columns, torch.cat(predicted).numpy())

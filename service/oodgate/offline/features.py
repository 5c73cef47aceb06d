"""One forward for every image; what the scores need of it is kept, the activations are not."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from oodgate.bundle import Bundle
from oodgate.model import Model
from oodgate.offline.cache import Cache, chunks_of, digest_of, key_of
from oodgate.offline.dataset import read_batches
from oodgate.pixels import opener_of
from oodgate.scores.registry import Parameters, State, clamped_terms, combine_terms, compute_terms, needs_of, terms_of
from oodgate.settings import Decoding, Device, Precision

BATCH = 50

_PREDICTED, _LOGITS = "predicted", "logits"

Progress = Callable[[int], None]
"""Called with the number of images done since the last call."""


@dataclass(frozen=True)
class ImageTerms:
    """The methods' scores of many images, and the classes predicted for them."""

    terms: dict[str, Tensor]  # float32 (N,) each, by method
    predicted: Tensor  # int64 (N,)
    logits: Tensor | None = None  # float32 (N, K), where they were asked for

    def scores(self, scorer: str, w: float | None, state: State) -> NDArray[np.float32]:
        """The scores (N,) of a scorer."""
        return combine_terms(scorer, w, self.terms, state).numpy()

    def clamped(self, scorer: str) -> int:
        """Number of images for which a scorer had to clamp a term."""
        return int(clamped_terms(scorer, self.terms).sum())

    def __len__(self) -> int:
        return len(self.predicted)


class Extractor:
    """A network on its device that turns images into terms, and remembers them in a cache folder if it has one."""

    def __init__(
        self,
        bundle: Bundle,
        scorers: Iterable[str],
        parameters: Parameters,
        device: Device = "auto",
        precision: Precision = "float32",
        cache: Path | None = None,
        keeps_logits: bool = False,
        decoding: Decoding = "host",
    ) -> None:
        """`scorers` say which terms are kept; the bundle's state has to hold what they need.

        Raises SetupError where the device cannot decode and has to.
        """
        self.model = Model(bundle, device, precision)
        preprocessing = bundle.manifest.preprocessing
        self._opener = opener_of(preprocessing, decoding, self.model.device)
        self._methods = sorted({name for scorer in scorers for name in terms_of(scorer)})
        self._parameters = parameters
        self._state = {name: tensor.to(self.model.device) for name, tensor in bundle.state.items()}
        self._keeps_logits = keeps_logits
        network, read = (
            bundle.network_hash,
            {name: bundle.state[name] for name in needs_of(self._methods) & bundle.state.keys()},
        )
        made_by = (network, digest_of(read), preprocessing, self._methods, parameters, precision, keeps_logits)
        decoded_by = () if decoding == "host" else (self.model.device.type,)
        self._cache = Cache(cache, repr(made_by + decoded_by))

    def of_files(self, paths: Sequence[Path], progress: Progress) -> ImageTerms:
        """The terms of image files, in order."""
        return _concatenate([self._of_chunk(chunk, progress) for chunk in chunks_of(paths)])

    def of_pixels(self, images: NDArray[np.uint8], progress: Progress) -> ImageTerms:
        """The terms of preprocessed images (N, H, W, 3)."""
        key = hashlib.sha256(images.tobytes()).hexdigest()
        return self._remembered(key, torch.from_numpy(images).split(BATCH), len(images), progress)

    def _of_chunk(self, paths: Sequence[Path], progress: Progress) -> ImageTerms:
        return self._remembered(key_of(paths), read_batches(paths, self._opener, BATCH), len(paths), progress)

    def _remembered(self, key: str, batches: Iterable[Tensor], count: int, progress: Progress) -> ImageTerms:
        stored = self._cache.find(key)
        if stored is None:
            stored = self._run(batches, progress)
            self._cache.keep(key, stored)
        else:
            progress(count)
        return ImageTerms({name: stored[name] for name in self._methods}, stored[_PREDICTED], stored.get(_LOGITS))

    def _run(self, batches: Iterable[Tensor], progress: Progress) -> dict[str, Tensor]:
        rows: list[tuple[Tensor, Tensor]] = []
        for pixels in batches:
            rows.append(self._answer(pixels))
            progress(len(pixels))
        terms, logits = (torch.cat(parts) for parts in zip(*rows, strict=True))
        found = {name: terms[:, column].contiguous() for column, name in enumerate(self._methods)}
        found[_PREDICTED] = terms[:, -1].long()
        return {**found, _LOGITS: logits} if self._keeps_logits else found

    def _answer(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The terms and the predicted class as a table (n, methods + 1); the logits (n, K), or nothing of them."""
        forward = self.model.run(pixels)
        with torch.inference_mode():
            terms = compute_terms(self._methods, self._parameters, forward, self._state)
            table = torch.stack([*terms.values(), forward.logits.argmax(1).float()], 1)
            logits = forward.logits if self._keeps_logits else forward.logits[:, :0]
        return table.cpu().clone(), logits.cpu().clone()


def _concatenate(parts: Sequence[ImageTerms]) -> ImageTerms:
    terms = {name: torch.cat([part.terms[name] for part in parts]) for name in parts[0].terms}
    logits = [part.logits for part in parts if part.logits is not None]
    return ImageTerms(terms, torch.cat([part.predicted for part in parts]), torch.cat(logits) if logits else None)

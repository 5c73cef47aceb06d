"""One forward for every image; what the scores need of it is kept, the activations are not."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from oodgate.bundle import Bundle
from oodgate.model import Model
from oodgate.offline.dataset import read_batches
from oodgate.scores.registry import Parameters, State, clamped_terms, combine_terms, compute_terms, terms_of
from oodgate.settings import Device, Precision

BATCH = 50
CHUNK = 2000
"""Images between two writes to the cache: what an interruption can cost."""

_PREDICTED = "predicted"

Progress = Callable[[int], None]
"""Called with the number of images done since the last call."""


@dataclass(frozen=True)
class ImageTerms:
    """The methods' scores of many images, and the classes predicted for them."""

    terms: dict[str, Tensor]  # float32 (N,) each, by method
    predicted: Tensor  # int64 (N,)

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
    ) -> None:
        """`scorers` say which terms are kept; the bundle's state has to hold what they need."""
        self.model = Model(bundle, device, precision)
        self.preprocessing = bundle.manifest.preprocessing
        self._methods = sorted({name for scorer in scorers for name in terms_of(scorer)})
        self._parameters = parameters
        self._state = {name: tensor.to(self.model.device) for name, tensor in bundle.state.items()}
        self._cache = cache
        self._identity = repr((bundle.manifest.files, self.preprocessing, self._methods, parameters, precision))

    def of_files(self, paths: Sequence[Path], progress: Progress) -> ImageTerms:
        """The terms of image files, in order."""
        chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
        return _concatenate([self._of_chunk(chunk, progress) for chunk in chunks])

    def of_pixels(self, images: NDArray[np.uint8], progress: Progress) -> ImageTerms:
        """The terms of preprocessed images (N, H, W, 3)."""
        key = hashlib.sha256(images.tobytes()).hexdigest()

        def run() -> ImageTerms:
            return self._run(torch.from_numpy(images).split(BATCH), progress)

        return self._remembered(key, len(images), progress, run)

    def _of_chunk(self, paths: Sequence[Path], progress: Progress) -> ImageTerms:
        key = repr([(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths])

        def run() -> ImageTerms:
            return self._run(read_batches(paths, self.preprocessing, BATCH), progress)

        return self._remembered(key, len(paths), progress, run)

    def _run(self, batches: Iterable[Tensor], progress: Progress) -> ImageTerms:
        parts = []
        for pixels in batches:
            forward = self.model.run(pixels)
            with torch.inference_mode():
                terms = compute_terms(self._methods, self._parameters, forward, self._state)
                table = torch.stack([*terms.values(), forward.logits.argmax(1).float()], 1).cpu()  # (n, methods + 1)
            parts.append(table)
            progress(len(pixels))
        columns = torch.cat(parts).clone().unbind(1)
        terms = {name: column.contiguous() for name, column in zip(self._methods, columns, strict=False)}
        return ImageTerms(terms, columns[-1].long())

    def _remembered(self, key: str, count: int, progress: Progress, run: Callable[[], ImageTerms]) -> ImageTerms:
        if self._cache is None:
            return run()
        path = self._cache / f"{hashlib.sha256((self._identity + key).encode()).hexdigest()}.safetensors"
        if path.exists():
            stored = load_file(path)
            progress(count)
            return ImageTerms({name: stored[name] for name in self._methods}, stored[_PREDICTED])
        found = run()
        self._cache.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        save_file({**found.terms, _PREDICTED: found.predicted}, partial)
        partial.replace(path)
        return found


def _concatenate(parts: Sequence[ImageTerms]) -> ImageTerms:
    names = parts[0].terms
    terms = {name: torch.cat([part.terms[name] for part in parts]) for name in names}
    return ImageTerms(terms, torch.cat([part.predicted for part in parts]))

"""BentoML: two workers with adaptive batching; the picture in a form of type multipart."""

from pathlib import Path

import bentoml
from job import MAX_BATCH, WORKERS, Network, decode

MAX_LATENCY_MS = 30_000  # beyond it BentoML refuses requests


@bentoml.service(workers=WORKERS)
class Classifier:
    """Image files -> classes."""

    def __init__(self) -> None:
        self._network = Network()

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH, max_latency_ms=MAX_LATENCY_MS)
    def predict(self, images: list[Path]) -> list[dict[str, float]]:
        """A batch."""
        return self._network([decode(path.read_bytes()) for path in images])

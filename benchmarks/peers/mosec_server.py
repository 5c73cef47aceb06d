"""mosec: a stage of workers that decode, a stage of workers that batch and run the network."""

import sys

import numpy as np
from job import MAX_BATCH, MAX_WAIT_MS, PORT, WORKERS, Network, decode
from mosec import Server, Worker

TIMEOUT_MS = 30_000


class Decode(Worker):
    """Image file -> pixels."""

    def deserialize(self, data: bytes) -> bytes:
        """The body is the image file."""
        return data

    def forward(self, data: bytes) -> np.ndarray:
        """One image."""
        return decode(data)


class Classify(Worker):
    """Pixels -> classes."""

    def __init__(self) -> None:
        super().__init__()
        self._network = Network()

    def forward(self, images: list[np.ndarray]) -> list[dict[str, float]]:
        """A batch."""
        return self._network(images)


if __name__ == "__main__":
    sys.argv += ["--address", "127.0.0.1", "--port", str(PORT), "--timeout", str(TIMEOUT_MS)]
    server = Server()
    server.append_worker(Decode, num=WORKERS)
    server.append_worker(Classify, num=WORKERS, max_batch_size=MAX_BATCH, max_wait_time=MAX_WAIT_MS)
    server.run()

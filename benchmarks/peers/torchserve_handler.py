"""TorchServe: the handler of its workers."""

from job import Network, decode


class Classifier:
    """Image files -> classes."""

    def __init__(self) -> None:
        self.initialized = False

    def initialize(self, context: object) -> None:
        """Load the network of one worker."""
        self._network = Network()
        self.initialized = True

    def handle(self, rows: list[dict[str, bytes]], context: object) -> list[dict[str, float]]:
        """A batch."""
        return self._network([decode(bytes(row.get("body") or row["data"])) for row in rows])

"""LitServe: two workers, batches, the picture in a form of type multipart."""

import litserve
import numpy as np
from fastapi import UploadFile
from job import DEVICE, MAX_BATCH, MAX_WAIT_MS, PORT, WORKERS, Network, decode


class Classifier(litserve.LitAPI):
    """Image file -> class."""

    def setup(self, device: str) -> None:
        """Load the network of one worker."""
        self._network = Network()

    def decode_request(self, request: UploadFile) -> np.ndarray:
        """The picture of one request."""
        return decode(request.file.read())

    def predict(self, images: np.ndarray) -> list[dict[str, float]]:
        """A batch, which LitServe has stacked."""
        return self._network(list(images))

    def encode_response(self, output: dict[str, float]) -> dict[str, float]:
        """The answer to one request."""
        return output


if __name__ == "__main__":
    api = Classifier(max_batch_size=MAX_BATCH, batch_timeout=MAX_WAIT_MS / 1000)
    server = litserve.LitServer(api, accelerator=DEVICE, devices=1, workers_per_device=WORKERS)
    server.run(host="127.0.0.1", port=PORT, generate_client_file=False, log_level="warning")

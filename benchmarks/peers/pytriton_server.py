"""PyTriton: Triton's HTTP server and dynamic batcher in front of two Python workers; the picture is a BYTES tensor."""

import os
import sys

import numpy as np
from job import MAX_BATCH, PORT, WORKERS, Network, decode
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig


class Classifier:
    """Image files -> classes."""

    def __init__(self) -> None:
        self._network = Network()

    @batch
    def infer(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """A batch."""
        answers = self._network([decode(data) for (data,) in image])
        return {
            "class": np.array([[answer["class"]] for answer in answers], dtype=np.int64),
            "probability": np.array([[answer["probability"]] for answer in answers], dtype=np.float32),
        }


if __name__ == "__main__":
    # The stub of Triton's Python workers loads a libpython; it has to be that of the standard library it will import.
    os.environ["LD_LIBRARY_PATH"] = f"{sys.base_prefix}/lib"
    config = TritonConfig(http_address="127.0.0.1", http_port=PORT, allow_grpc=False, allow_metrics=False)
    with Triton(config=config, workspace=os.environ["WORK"] + "/triton") as triton:
        triton.bind(
            model_name="classifier",
            infer_func=[Classifier().infer for _ in range(WORKERS)],
            inputs=[Tensor(name="image", dtype=bytes, shape=(1,))],
            outputs=[
                Tensor(name="class", dtype=np.int64, shape=(1,)),
                Tensor(name="probability", dtype=np.float32, shape=(1,)),
            ],
            config=ModelConfig(max_batch_size=MAX_BATCH, batcher=DynamicBatcher()),
        )
        triton.serve()

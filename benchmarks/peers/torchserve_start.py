"""TorchServe: pack the handler into an archive, write the configuration, become the server."""

import json
import os
import subprocess
import sys
from pathlib import Path
from socket import socket

from job import MAX_BATCH, MAX_WAIT_MS, PORT, WORKERS

HANDLER = Path(__file__).with_name("torchserve_handler.py")
BIN = Path(sys.executable).parent
MODEL = {"defaultVersion": True, "marName": "classifier.mar", "minWorkers": WORKERS, "maxWorkers": WORKERS}
BATCHES = {"batchSize": MAX_BATCH, "maxBatchDelay": MAX_WAIT_MS, "responseTimeout": 120}


def free_port() -> int:
    """A port for what the clients do not use."""
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def configuration() -> str:
    """config.properties."""
    addresses = {"inference": PORT, "management": free_port(), "metrics": free_port()}
    lines = [f"{name}_address=http://127.0.0.1:{port}" for name, port in addresses.items()]
    models = {"classifier": {"1.0": MODEL | BATCHES}}
    return "\n".join([*lines, "load_models=classifier.mar", f"models={json.dumps(models)}", ""])


if __name__ == "__main__":
    os.chdir(os.environ["WORK"])
    Path("store").mkdir()
    pack = ["--model-name", "classifier", "--version", "1.0", "--handler", str(HANDLER), "--export-path", "store"]
    subprocess.run([BIN / "torch-model-archiver", *pack], check=True)  # noqa: S603  # the words are above
    Path("config.properties").write_text(configuration())
    options = ["--ncs", "--model-store", "store", "--ts-config", "config.properties", "--disable-token-auth"]
    os.execv(BIN / "torchserve", ["torchserve", "--start", "--foreground", *options])  # noqa: S606  # no shell is wanted

"""A drill: clients send images while a model is reloaded to and fro between two versions that answer differently.

    python tests/drills/reload.py --requests 10000 --reloads 20

Prints one line with figures; exit status 1 where an answer was lost, or was not wholly the one of a version.
"""

import argparse
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory
from threading import Lock
from time import monotonic, perf_counter, sleep
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import httpx
import numpy as np
from PIL import Image

from conftest import encoded, random_picture, running_server
from contract import connect
from drills.drill import broken, conclude
from oodgate.bundle import load_bundle
from oodgate.gate import Gate, Verdict
from versions import install, tiny_version

PICTURES = [encoded(random_picture(seed)) for seed in range(8)]
TOLERANCE = 1e-4
_STALLED_AFTER_S = 120


@dataclass
class Figures:
    """What happened."""

    answered: Counter[str] = field(default_factory=Counter)  # requests by version
    faults: list[str] = field(default_factory=list)  # lost or mixed answers
    latencies_ms: list[float] = field(default_factory=list)
    loads_ms: list[float] = field(default_factory=list)

    @property
    def requests(self) -> int:
        """Requests that have ended, well or not."""
        return self.answered.total() + len(self.faults)


class Drill:
    """One model at one address, and what each of its two versions answers to every picture."""

    def __init__(self, url: str, folder: Path, versions: dict[str, Path]) -> None:
        self.url, self.folder, self.versions = url, folder, versions
        self.scores = {version: scores_of(bundle) for version, bundle in versions.items()}
        one, other = self.scores.values()
        assert min(abs(a - b) for a, b in zip(one, other, strict=True)) > 10 * TOLERANCE
        self.figures = Figures()
        self._lock = Lock()

    def run(self, requests: int, reloads: int, clients: int) -> Figures:
        """Send the requests from many threads; reload whenever another share of them has been answered."""
        with ThreadPoolExecutor(clients) as threads:
            sending = [threads.submit(self._send, range(client, requests, clients)) for client in range(clients)]
            self._reload(requests, reloads)
            for client in sending:
                client.result()
        return self.figures

    def _send(self, numbers: range) -> None:
        with connect(self.url) as client:
            for number in numbers:
                start = perf_counter()
                try:
                    version, fault = self._ask(client, number)
                except Exception as error:
                    version, fault = "", f"request {number}: {type(error).__name__}: {error}"
                with self._lock:
                    self.figures.latencies_ms.append(1000 * (perf_counter() - start))
                    if fault:
                        self.figures.faults.append(fault)
                    else:
                        self.figures.answered[version] += 1

    def _ask(self, client: httpx.Client, number: int) -> tuple[str, str]:
        """The version that answered, and what was wrong with its answer."""
        chosen = [(number + offset) % len(PICTURES) for offset in range(1 if number % 4 else 4)]
        ask = ask_batch if number % 8 == 0 else ask_v2 if number % 4 == 0 else ask_one
        versions, scores = ask(client, [PICTURES[index] for index in chosen])
        (version,) = set(versions)
        expected = [self.scores[version][index] for index in chosen]
        wrong = not np.allclose(scores, expected, atol=TOLERANCE)
        return version, f"request {number}: version {version} gave {scores}, not {expected}" if wrong else ""

    def _reload(self, requests: int, reloads: int) -> None:
        names = list(self.versions)
        with connect(self.url) as client:
            for number in range(1, reloads + 1):
                self._wait_for(number * requests // (reloads + 1))
                version = names[number % 2]
                install(self.versions[version], self.folder)
                start = perf_counter()
                answer = client.post("/v1/models/tiny/load")
                self.figures.loads_ms.append(1000 * (perf_counter() - start))
                if answer.status_code != 200 or answer.json()["version"] != version:
                    self.figures.faults.append(f"load of version {version}: {answer.text}")

    def _wait_for(self, requests: int) -> None:
        deadline = monotonic() + _STALLED_AFTER_S
        while self.figures.requests < requests:
            assert monotonic() < deadline, "the clients do not come on"
            sleep(0.005)


def ask_one(client: httpx.Client, pictures: list[bytes]) -> tuple[list[str], list[float]]:
    """Versions and scores of one picture, sent as the body."""
    answer = client.post("/v1/predict", content=pictures[0], headers={"Content-Type": "image/png"})
    return read([answer.raise_for_status().json()])


def ask_batch(client: httpx.Client, pictures: list[bytes]) -> tuple[list[str], list[float]]:
    """Versions and scores of a batch."""
    parts = [("files", ("a.png", data, "image/png")) for data in pictures]
    return read(client.post("/v1/models/tiny/predict/batch", files=parts).raise_for_status().json()["results"])


def ask_v2(client: httpx.Client, pictures: list[bytes]) -> tuple[list[str], list[float]]:
    """Versions and scores by the Open Inference Protocol."""
    pixels = [np.asarray(Image.open(BytesIO(data))) for data in pictures]
    tensor = {
        "name": "pixels",
        "datatype": "UINT8",
        "shape": [len(pixels), 16, 16, 3],
        "data": np.ravel(pixels).tolist(),
    }
    request = {"inputs": [tensor], "outputs": [{"name": "ood_score"}]}
    answer = client.post("/v2/models/tiny/infer", json=request).raise_for_status().json()
    return [answer["model_version"]], answer["outputs"][0]["data"]


def read(predictions: list[dict[str, Any]]) -> tuple[list[str], list[float]]:
    """Versions and scores of prediction documents."""
    return [one["model"]["version"] for one in predictions], [one["ood"]["score"] for one in predictions]


def scores_of(bundle: Path) -> list[float]:
    """What a bundle says to each picture, without a service."""
    gate = Gate(load_bundle(bundle), "cpu")
    verdicts = gate.judge([np.asarray(Image.open(BytesIO(data))) for data in PICTURES])
    return [verdict.score for verdict in verdicts if isinstance(verdict, Verdict)]


def resident_mib(process: int) -> float:
    """Memory of a process."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def write_images(folder: Path) -> Path:
    """Pictures to calibrate the versions on."""
    folder.mkdir()
    for seed in range(200):
        (folder / f"{seed}.png").write_bytes(encoded(random_picture(1000 + seed)))
    return folder


def main() -> int:
    """Run the drill against a service of its own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--reloads", type=int, default=20)
    parser.add_argument("--clients", type=int, default=16)
    options = parser.parse_args()
    with TemporaryDirectory() as temporary:
        work = Path(temporary)
        images = write_images(work / "images")
        versions = {name: tiny_version(work / f"v{name}", images, name) for name in ("1", "2")}
        install(versions["1"], work / "tiny")
        with running_server(work / "tiny", work / "log", allow_reload=True) as server:
            before, start = resident_mib(server.process.pid), perf_counter()
            figures = Drill(server.url, work / "tiny", versions).run(options.requests, options.reloads, options.clients)
            seconds, after = perf_counter() - start, resident_mib(server.process.pid)
    cuts = quantiles(figures.latencies_ms, n=1000)
    return conclude(
        f"{figures.requests} requests in {seconds:.1f} s during {len(figures.loads_ms)} reloads: "
        f"{len(figures.faults)} lost or mixed; by version {dict(sorted(figures.answered.items()))}; "
        f"latency p50 {cuts[499]:.1f}, p99 {cuts[989]:.1f}, most {max(figures.latencies_ms):.1f} ms; "
        f"reload p50 {sorted(figures.loads_ms)[len(figures.loads_ms) // 2]:.0f}, most {max(figures.loads_ms):.0f} ms; "
        f"resident {before:.0f} -> {after:.0f} MiB",
        [*figures.faults, *broken((figures.requests < options.requests, "not all requests were sent"))],
    )


if __name__ == "__main__":
    sys.exit(main())

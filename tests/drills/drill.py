"""What the drills share: a service of their own, requests, load of several kinds at once, and the line at the end."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, perf_counter, sleep

sys.path.insert(0, str(Path(__file__).parent.parent))

import httpx
import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from conftest import DEFAULT_BUNDLE as DEFAULT_BUNDLE
from oodgate.bench.connection import LOOPBACK, build_request
from oodgate.bench.pictures import files_for, thumbnails
from oodgate.bench.process import Child, free_port, get, running, usage, wait_until_ready
from oodgate.bench.users import Load, Seconds
from oodgate.bundle import load_bundle
from oodgate.settings import Settings

FOLDER = Path(__file__).parent
_SHOWN = 10


@dataclass(frozen=True)
class Service:
    """A service that runs, and its log."""

    process: Child
    port: int
    log: Path

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def rss_mib(self) -> float:
        """Its memory now."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    @property
    def descriptors(self) -> int:
        """Files and connections that it has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))  # noqa: PTH208  # only their number counts

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples with these labels; 0 where there is none."""
        samples = (
            one for family in text_string_to_metric_families(get(self.port, "/metrics")[1]) for one in family.samples
        )
        return sum(
            one.value for one in samples if one.name == f"oodgate_{name}" and labels.items() <= one.labels.items()
        )


@contextmanager
def service(
    bundle: Path,
    command: Sequence[str] = ("-m", "oodgate.cli"),
    variables: Mapping[str, str] | None = None,
    **settings: object,
) -> Iterator[Service]:
    """A service on a free port, ended with the block; the command is one of Python's, and serves."""
    port = free_port()
    chosen = {"bundle": bundle, "host": LOOPBACK, "port": port, "device": "cpu", **settings}
    own = {f"OODGATE_{name.upper()}": str(value) for name, value in chosen.items()}
    others = {name: value for name, value in os.environ.items() if not name.startswith("OODGATE_")}
    with TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with running([sys.executable, *command, "serve"], others | own | (variables or {}), log) as process:
            wait_until_ready(process, port, "/readyz", log)
            yield Service(process, port, log)


def singles(bundle: Path, files: str | None = None, headers: Mapping[str, str] | None = None) -> list[bytes]:
    """Requests of one image each, from files or from generated ones of the size that suits the bundle."""
    found = files_for(load_bundle(bundle).manifest, files, Settings(bundle=bundle))
    return [
        build_request("/v1/predict", one.data, {"Content-Type": one.content_type, **(headers or {})}) for one in found
    ]


def batches(number: int, images: int) -> list[bytes]:
    """Requests of many small images each."""
    files = [one.data for one in thumbnails(images)]
    return [_multipart([files[(start + index) % images] for index in range(images)]) for start in range(number)]


def _multipart(files: Sequence[bytes]) -> bytes:
    parts = [("files", (f"{index}.png", data, "image/png")) for index, data in enumerate(files)]
    form = httpx.Request("POST", "http://localhost/", files=parts)
    return build_request("/v1/predict/batch", form.read(), {"Content-Type": form.headers["content-type"]})


def get_request(path: str) -> bytes:
    """The bytes of a GET."""
    return f"GET {path} HTTP/1.1\r\nHost: {LOOPBACK}\r\n\r\n".encode()


def p99_ms(loads: Sequence[Load]) -> float:
    """Of the good answers to all of the loads; infinite where there are none."""
    latencies: Seconds = np.concatenate([load.latencies for load in loads])
    return 1000 * float(np.percentile(latencies, 99)) if latencies.size else float("inf")


def rate(loads: Sequence[Load]) -> float:
    """Good answers in a second of all of the loads."""
    return sum(load.completed for load in loads) / sum(load.seconds for load in loads)


def errors(loads: Sequence[Load]) -> dict[str, int]:
    """What was not answered well, by status or by what went wrong."""
    found = sorted({outcome for load in loads for outcome in load.errors})
    return {outcome: sum(load.errors.get(outcome, 0) for load in loads) for outcome in found}


def settled(read: Callable[[], float], wanted: float, timeout_s: float) -> float:
    """The number read last: when it is no more than wanted, or when the time is over."""
    deadline = monotonic() + timeout_s
    while (found := read()) > wanted and monotonic() < deadline:
        sleep(0.1)
    return found


class Strangers:
    """Cores that processes keep busy which are neither this one nor its service, since the beginning."""

    def __init__(self) -> None:
        self._start, self._before = perf_counter(), self._busy_s()

    @property
    def cores(self) -> float:
        """Their mean; where it is not near 0 nothing that was measured means much."""
        return (self._busy_s() - self._before) / (perf_counter() - self._start)

    @staticmethod
    def _busy_s() -> float:
        own = usage(os.getpid())  # with its children, the service among them
        user, nice, system, _, _, irq, soft, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
        busy = (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")
        return busy - (own.cpu_s if own else 0.0)


def broken(*rules: tuple[bool, str]) -> list[str]:
    """What is said of the rules that are broken."""
    return [words for is_broken, words in rules if is_broken]


STRANGERS = Strangers()
_MOST_CORES = 0.1


def conclude(figures: str, faults: Sequence[str]) -> int:
    """Print the one line, and what was wrong beside it; the exit status."""
    disturbed = STRANGERS.cores > _MOST_CORES
    doubt = f" (while others kept {STRANGERS.cores:.1f} cores of this machine busy)" if disturbed else ""
    print(f"{figures}: {'FAIL' if faults else 'PASS'}{doubt}")
    print(*faults[:_SHOWN], sep="\n", end="\n" if faults else "", file=sys.stderr)
    return 1 if faults else 0

"""Clients that know the right answer to every picture, and keep an account of what became of every request."""

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from threading import Event, Lock
from time import monotonic
from types import TracebackType

import httpx
import numpy as np
from PIL import Image
from reload import PICTURES, TOLERANCE, write_images

from oodgate.bundle import load_bundle
from oodgate.gate import Gate, Verdict
from versions import tiny_version

CLOSED, UNREACHABLE = 0, -1
SLOWEST_MS = 2000
_PAUSE_S = 0.02


@dataclass(frozen=True)
class Known:
    """What is answered to a picture."""

    name: str
    score: float


Reference = Mapping[str, Sequence[Known]]
"""The right answers to the pictures, by version."""


@dataclass(frozen=True)
class Outcome:
    """One request: its id, when it was sent and when it ended, its status, or that the connection was closed."""

    request: str
    sent_s: float
    ended_s: float
    status: int


@dataclass
class Account:
    """All requests, and what was wrong with their answers."""

    outcomes: list[Outcome] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def statuses(self) -> dict[int, int]:
        """How often each status came."""
        return dict(sorted(Counter(one.status for one in self.outcomes if one.status > 0).items()))

    @property
    def closed(self) -> int:
        """Requests whose connection was closed without an answer."""
        return sum(one.status == CLOSED for one in self.outcomes)

    @property
    def lost(self) -> list[str]:
        """What is wrong where every request has a right to a right answer in time."""
        other = [] if set(self.statuses) == {200} and not self.closed else [f"{self}, {self.closed} connections closed"]
        late = [f"an answer took {self.slowest_ms:.0f} ms"] if self.slowest_ms > SLOWEST_MS else []
        return self.faults + other + late

    def __str__(self) -> str:
        return f"{self.statuses}, slowest {self.slowest_ms:.0f} ms"

    @property
    def slowest_ms(self) -> float:
        """The longest wait for a good answer."""
        return max((1000 * (one.ended_s - one.sent_s) for one in self.outcomes if one.status == 200), default=0.0)


class Witnesses:
    """Several clients at work within the block."""

    def __init__(self, url: str, reference: Reference, clients: int = 8) -> None:
        """They send to this address once the block begins."""
        self.account = Account()
        self._url, self._reference, self._clients = url, reference, clients
        self._threads, self._leave, self._lock = ThreadPoolExecutor(clients), Event(), Lock()

    def __enter__(self) -> "Witnesses":
        self._working = [self._threads.submit(self._witness, number) for number in range(self._clients)]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave.set()
        self._threads.shutdown()
        for witness in self._working:
            witness.result()

    def _witness(self, client: int) -> None:
        with httpx.Client(base_url=self._url, timeout=60) as connection:
            number = client
            while not self._leave.is_set():
                outcome, fault = self._ask(connection, number, f"{client}-{number}")
                with self._lock:
                    self.account.outcomes.append(outcome)
                    self.account.faults += [fault] if fault else []
                if outcome.status != 200:
                    self._leave.wait(_PAUSE_S)
                number += 1

    def _ask(self, connection: httpx.Client, number: int, request: str) -> tuple[Outcome, str]:
        picture, sent = number % len(PICTURES), monotonic()
        headers = {"Content-Type": "image/png", "X-Request-Id": request}
        try:
            answer = connection.post("/v1/predict", content=PICTURES[picture], headers=headers)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            return Outcome(request, sent, monotonic(), UNREACHABLE), ""
        except httpx.HTTPError:
            return Outcome(request, sent, monotonic(), CLOSED), ""
        fault = self._fault(answer, picture, request)
        return Outcome(request, sent, monotonic(), answer.status_code), fault

    def _fault(self, answer: httpx.Response, picture: int, request: str) -> str:
        if answer.headers.get("x-request-id") != request:
            return f"{request}: the answer is to {answer.headers.get('x-request-id')}"
        if answer.status_code != 200:
            return ""
        found = answer.json()
        known = self._reference[found["model"]["version"]][picture]
        name, score = found["predictions"][0]["class"], found["ood"]["score"]
        right = name == known.name and abs(score - known.score) < TOLERANCE
        return "" if right else f"{request}: {name} with {score}, not {known}"


def reference_of(*bundles: Path) -> Reference:
    """The right answers of bundles, found without a service."""
    return {load_bundle(bundle).manifest.version: _known(bundle) for bundle in bundles}


def small_bundle(folder: Path, version: str = "1") -> Path:
    """A calibrated bundle of a tiny network, and the images that it was calibrated on beside it."""
    images = folder / "images"
    return tiny_version(folder / f"v{version}", images if images.exists() else write_images(images), version)


def _known(bundle: Path) -> list[Known]:
    gate = Gate(load_bundle(bundle), "cpu")
    verdicts = gate.judge([np.asarray(Image.open(BytesIO(data))) for data in PICTURES])
    names = gate.manifest.classes
    return [Known(names[int(one.probabilities.argmax())], one.score) for one in verdicts if isinstance(one, Verdict)]

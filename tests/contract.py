"""What the tests hold every HTTP answer to, and how they read the metrics and wait."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from socket import create_connection
from time import monotonic, sleep

import httpx
from prometheus_client.parser import text_string_to_metric_families

from conftest import running_server
from oodgate.api.schemas import BatchPrediction, Prediction, Problem

TIMEOUT_S = 60
# With a limit, httpcore may close a connection that another thread has just been given (encode/httpcore#1110).
WITHOUT_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=None)


def connect(url: str) -> httpx.Client:
    """A client of one server for any number of threads; close it."""
    return httpx.Client(base_url=url, limits=WITHOUT_LIMITS, timeout=TIMEOUT_S)


@contextmanager
def serving(bundle: Path | None, logs: Path, **settings: object) -> Iterator[httpx.Client]:
    """A client of a server of its own, for the tests of a module that leave no state behind."""
    with running_server(bundle, logs / "server.log", **settings) as server, connect(server.url) as client:
        yield client


def predict(
    client: httpx.Client, data: bytes, content_type: str = "image/png", model: str = "", **params: object
) -> httpx.Response:
    """POST an image as the body, to the default model or to the one named."""
    path = f"/v1/models/{model}/predict" if model else "/v1/predict"
    return client.post(path, content=data, headers={"Content-Type": content_type}, params=params)


def predict_batch(client: httpx.Client, *files: bytes, model: str = "", **params: object) -> httpx.Response:
    """POST PNG files as the parts `files`, to the default model or to the one named."""
    path = f"/v1/models/{model}/predict/batch" if model else "/v1/predict/batch"
    parts = [("files", (f"{index}.png", data, "image/png")) for index, data in enumerate(files)]
    return client.post(path, files=parts, params=params)


def read_prediction(response: httpx.Response) -> Prediction:
    """The prediction of a response, which must be one."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    prediction = Prediction.model_validate_json(response.content)
    assert prediction.id == response.headers["x-request-id"]
    return prediction


def read_batch(response: httpx.Response) -> list[Prediction | Problem]:
    """The results of a batch response, which must be one."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    results = BatchPrediction.model_validate_json(response.content).results
    ids = [result.id if isinstance(result, Prediction) else result.request_id for result in results]
    assert ids == [f"{response.headers['x-request-id']}/{position}" for position in range(len(results))]
    return results


def read_problem(response: httpx.Response, status: int, code: str) -> Problem:
    """The problem document of a response, which must be one with this status and code."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = Problem.model_validate_json(response.content)
    check_problem(problem, status, code)
    assert problem.request_id == response.headers["x-request-id"]
    return problem


def check_problem(problem: Prediction | Problem, status: int, code: str) -> None:
    """Hold a problem document to its status and code."""
    assert isinstance(problem, Problem)
    assert (problem.status, problem.code, problem.type) == (status, code, f"urn:oodgate:problem:{code}")
    assert problem.title
    assert problem.detail


def exchange(client: httpx.Client, request: bytes) -> bytes:
    """What the server answers to these bytes until it closes the connection; the bytes should ask it to."""
    with create_connection((client.base_url.host, client.base_url.port or 80), timeout=TIMEOUT_S) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(client: httpx.Client) -> Samples:
    """Every sample of /metrics, by name and labels."""
    response = client.get("/metrics")
    assert response.status_code == 200
    families = text_string_to_metric_families(response.text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def value(samples: Samples, name: str, **labels: str) -> float:
    """The sum of the samples with these labels; 0 where there is none yet, as for Prometheus."""
    wanted = set(labels.items())
    return sum(number for (found, pairs), number in samples.items() if found == f"oodgate_{name}" and wanted <= pairs)


def metric(client: httpx.Client, name: str, **labels: str) -> float:
    """The sum of the samples with these labels now."""
    return value(scrape(client), name, **labels)


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds; fails after a time that no healthy run comes near."""
    deadline = monotonic() + TIMEOUT_S
    while not condition():
        assert monotonic() < deadline, "the condition did not come true"
        sleep(0.01)

"""POST /v1/predict on images that can be answered."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from conftest import encoded, random_picture
from contract import predict, read_prediction, serving
from oodgate.api.schemas import Prediction
from oodgate.bundle import load_bundle
from oodgate.gate import Gate, Verdict
from oodgate.images.decode import decode
from oodgate.images.preprocess import preprocess
from oodgate.settings import Settings


@pytest.fixture(scope="module")
def client(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with serving(bundle_folder, tmp_path_factory.mktemp("logs")) as connected:
        yield connected


@pytest.fixture(scope="module")
def gate(bundle_folder: Path) -> Gate:
    return Gate(load_bundle(bundle_folder), "cpu")


def judged_offline(gate: Gate, data: bytes) -> Verdict:
    settings = Settings()
    picture = decode(data, settings.max_pixels, settings.formats)
    (verdict,) = gate.judge([preprocess(picture, gate.manifest.preprocessing)])
    assert isinstance(verdict, Verdict)
    return verdict


def assert_same(prediction: Prediction, verdict: Verdict, gate: Gate) -> None:
    """Every number of the answer is the one of the gate."""
    ood, calibration = prediction.ood, gate.calibration
    assert ood.score == pytest.approx(verdict.score, abs=1e-5)
    assert ood.terms == pytest.approx(verdict.terms, abs=1e-5)
    assert ood.p_value == pytest.approx(verdict.p_value, abs=1e-5)
    assert (ood.scorer, ood.w, ood.threshold) == (calibration.scorer.name, calibration.scorer.w, calibration.threshold)
    assert prediction.decision == ("accept" if verdict.accepted else "reject")
    answered = {entry.index: entry.probability for entry in prediction.predictions}
    assert answered == pytest.approx(dict(enumerate(verdict.probabilities.tolist())), abs=1e-5)
    assert (prediction.model.name, prediction.model.version) == (gate.manifest.name, gate.manifest.version)


@pytest.mark.parametrize(
    ("image_format", "width", "height"),
    [("PNG", 16, 16), ("PNG", 40, 30), ("JPEG", 16, 16), ("JPEG", 25, 61), ("WEBP", 33, 17), ("BMP", 16, 20)],
)
def test_answer_is_the_offline_one_for_the_same_bytes(
    client: httpx.Client, gate: Gate, image_format: str, width: int, height: int
) -> None:
    data = encoded(random_picture(7, width, height), image_format)
    answer = read_prediction(predict(client, data, f"image/{image_format.lower()}"))
    assert_same(answer, judged_offline(gate, data), gate)


def test_decision_is_the_offline_one_on_both_sides_of_the_threshold(
    client: httpx.Client, gate: Gate, image_folder: Path
) -> None:
    files = [path.read_bytes() for path in sorted(image_folder.iterdir())]
    verdicts = [judged_offline(gate, data) for data in files]
    ranking = np.argsort([verdict.score for verdict in verdicts])
    decisions = []
    for row in (*ranking[:3], *ranking[-3:]):
        answer = read_prediction(predict(client, files[row]))
        assert_same(answer, verdicts[row], gate)
        decisions.append(answer.decision)
    assert decisions == ["reject"] * 3 + ["accept"] * 3


def test_raw_body_and_multipart_give_the_same(client: httpx.Client) -> None:
    data = encoded(random_picture(1))
    raw = read_prediction(predict(client, data))
    multipart = read_prediction(client.post("/v1/predict", files={"file": ("a.png", data, "image/png")}))
    varying = {"id", "timing_ms"}
    assert raw.model_dump(exclude=varying) == multipart.model_dump(exclude=varying)


def test_multipart_part_of_unspecific_type_is_read(client: httpx.Client) -> None:
    part = ("upload", encoded(random_picture(1)), "application/octet-stream")
    read_prediction(client.post("/v1/predict", files={"file": part}))


@pytest.mark.parametrize("content_type", ["IMAGE/PNG", "image/png; charset=binary", "image/jpeg"])
def test_content_type_announces_an_image_and_the_bytes_say_which(client: httpx.Client, content_type: str) -> None:
    read_prediction(predict(client, encoded(random_picture(1)), content_type))


@pytest.mark.parametrize(("top_k", "answered"), [(1, 1), (3, 3), (4, 4), (1000, 4)])
def test_top_k_limits_the_classes(client: httpx.Client, top_k: int, answered: int) -> None:
    answer = read_prediction(predict(client, encoded(random_picture(2)), top_k=top_k))
    assert len(answer.predictions) == answered


def test_classes_come_most_probable_first_with_their_names(client: httpx.Client, gate: Gate) -> None:
    answer = read_prediction(predict(client, encoded(random_picture(3))))
    probabilities = [entry.probability for entry in answer.predictions]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1, abs=1e-5)
    assert [entry.class_name for entry in answer.predictions] == [
        gate.manifest.classes[entry.index] for entry in answer.predictions
    ]


def test_timing_names_every_stage_and_the_total_holds_them(client: httpx.Client) -> None:
    timing = read_prediction(predict(client, encoded(random_picture(4)))).timing_ms
    assert min(timing.decode, timing.queue, timing.forward) >= 0
    assert timing.total >= max(timing.decode, timing.queue, timing.forward) > 0

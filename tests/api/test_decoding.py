"""Images decoded on the model's device, over HTTP: decided as the service decides that decodes on the host."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from conftest import calibrated, encoded, random_picture, tiny_bundle, without_tables
from contract import metric, predict, read_prediction, read_problem, serving


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory, image_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    for path in image_folder.iterdir():
        Image.open(path).convert("RGB").save(folder / f"{path.stem}.jpg", quality=95)
    return folder


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory, photographs: Path) -> Iterator[dict[str, httpx.Client]]:
    """Of a service that decodes on the device, and of one that decodes on the host."""
    folder = tmp_path_factory.mktemp("decoding")
    tiny_bundle(folder / "tiny")
    calibrated(folder / "tiny", photographs, check_decoding=True)
    (folder / "logs").mkdir()
    with (
        serving(folder / "tiny", folder, decoding="device") as on_device,
        serving(folder / "tiny", folder / "logs") as on_host,
    ):
        yield {"device": on_device, "host": on_host}


def test_a_jpeg_is_scored_nearly_as_if_the_host_had_decoded_it(
    clients: dict[str, httpx.Client], photographs: Path
) -> None:
    for path in sorted(photographs.iterdir())[:20]:
        found, expected = (
            read_prediction(predict(client, path.read_bytes(), "image/jpeg")) for client in clients.values()
        )
        assert found.ood.score == pytest.approx(expected.ood.score, abs=0.1)
        assert found.predictions[0].probability == pytest.approx(expected.predictions[0].probability, abs=0.02)


def test_every_other_format_is_scored_alike(clients: dict[str, httpx.Client]) -> None:
    data = encoded(random_picture(3))
    found, expected = (read_prediction(predict(client, data)) for client in clients.values())
    assert found.ood == expected.ood


def test_a_damaged_jpeg_is_answered_as_by_the_host(clients: dict[str, httpx.Client], photographs: Path) -> None:
    damaged = without_tables(next(photographs.iterdir()).read_bytes())
    found, expected = (predict(client, damaged, "image/jpeg") for client in clients.values())
    assert read_problem(found, 400, "invalid_image").detail == read_problem(expected, 400, "invalid_image").detail


def test_the_time_to_decode_is_counted(clients: dict[str, httpx.Client], photographs: Path) -> None:
    client, data = clients["device"], next(photographs.iterdir()).read_bytes()
    before = metric(client, "stage_duration_seconds_count", stage="decode")
    assert read_prediction(predict(client, data, "image/jpeg")).timing_ms.decode > 0
    assert metric(client, "stage_duration_seconds_count", stage="decode") == before + 1

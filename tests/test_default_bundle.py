"""The embedded bundle on real images over HTTP: what its card promises."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from conftest import DEFAULT_BUNDLE, Server, running_server
from oodgate.bundle import load_bundle
from oodgate.gate import Gate
from oodgate.offline.predict import predict_paths

pytestmark = pytest.mark.shared_data
IMAGES = 1000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(DEFAULT_BUNDLE, tmp_path_factory.mktemp("server") / "log") as running:
        yield running


def post_all(url: str, paths: list[Path]) -> list[dict[str, Any]]:
    """Every file's answer, 32 at a time."""

    async def post() -> list[dict[str, Any]]:
        limits = httpx.Limits(max_connections=32)
        async with httpx.AsyncClient(base_url=url, limits=limits, timeout=120) as client:
            headers = {"Content-Type": "image/png"}
            requests = (client.post("/v1/predict", content=path.read_bytes(), headers=headers) for path in paths)
            return [answer.raise_for_status().json() for answer in await asyncio.gather(*requests)]

    return asyncio.run(post())


def every_nth(folder: Path, pattern: str) -> list[Path]:
    """A thousand files, spread evenly."""
    paths = sorted(folder.glob(pattern))
    return [paths[index * len(paths) // IMAGES] for index in range(IMAGES)]


def accepted_share(answers: list[dict[str, Any]]) -> float:
    return 100 * sum(answer["decision"] == "accept" for answer in answers) / len(answers)


def measures() -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((DEFAULT_BUNDLE / "bundle.json").read_text())
    return dict(manifest["measures"])


def test_test_images_are_classified_as_the_card_says_and_95_percent_accepted(
    server: Server, image_folders: Path
) -> None:
    paths = every_nth(image_folders / "cifar10" / "test", "*/*.png")
    answers = post_all(server.url, paths)
    hits = sum(a["predictions"][0]["class"] == path.parent.name for a, path in zip(answers, paths, strict=True))
    assert 100 * hits / IMAGES == pytest.approx(measures()["id"]["accuracy"], abs=1)
    assert accepted_share(answers) == pytest.approx(95, abs=2)


def test_textures_are_rejected_as_measured_offline(server: Server, image_folders: Path) -> None:
    answers = post_all(server.url, every_nth(image_folders / "ood" / "textures", "*.png"))
    assert accepted_share(answers) == pytest.approx(measures()["accepted"]["textures"], abs=2)


def test_a_score_over_http_is_the_offline_score(server: Server, image_folders: Path) -> None:
    paths = every_nth(image_folders / "cifar10" / "test", "*/*.png")[::20]
    online = [answer["ood"] for answer in post_all(server.url, paths)]
    offline = predict_paths(Gate(load_bundle(DEFAULT_BUNDLE), "cpu"), paths, lambda count: None)
    for answer, record in zip(online, offline, strict=True):
        assert answer["score"] == pytest.approx(record["score"], rel=1e-4)
        assert answer["p_value"] == pytest.approx(record["p_value"], abs=1e-3)


def test_nap_energy_finds_textures_better_than_energy() -> None:
    textures = measures()["sets"]["textures"]
    assert textures["nap-energy"]["fpr95"] < textures["energy"]["fpr95"]
    assert measures()["id"]["accuracy"] >= 93

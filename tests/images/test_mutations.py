"""Damaged files over the decoder and the transform, and over HTTP; `tests/drills/fuzz.py` sends many more."""

from pathlib import Path

import pytest
from hostile import SIDE, jpeg_announcing, polyglots
from mutations import corpus, sound_files
from slow import slow_files

from contract import predict, read_prediction, read_problem, serving
from oodgate.errors import InvalidImage, TooManyPixels
from oodgate.images.decode import decode
from oodgate.images.preprocess import Preprocessing, preprocess
from oodgate.settings import IMAGE_TYPES

FORMATS = tuple(IMAGE_TYPES)
LIMIT = 1_000_000
WANTED = Preprocessing(resize=40, crop=(32, 32), mean=(0, 0, 0), std=(1, 1, 1))


def test_the_same_seed_makes_the_same_files() -> None:
    assert list(corpus(50, seed=3)) == list(corpus(50, seed=3))
    assert list(corpus(50, seed=3)) != list(corpus(50, seed=4))


@pytest.mark.parametrize("name", sound_files())
def test_files_are_sound_before_they_are_damaged(name: str) -> None:
    decode(sound_files()[name], LIMIT, FORMATS)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_files_give_pixels_of_the_wanted_size_or_a_request_error() -> None:
    outcomes = set()
    for name, data in corpus(1500, seed=0):
        try:
            pixels = preprocess(decode(data, LIMIT, FORMATS), WANTED)
        except (InvalidImage, TooManyPixels) as error:
            outcomes.add(type(error))
        else:
            outcomes.add(type(pixels))
            assert pixels.shape == (32, 32, 3), name
    assert len(outcomes) == 3


def test_service_answers_hostile_files_and_goes_on(bundle_folder: Path, tmp_path: Path) -> None:
    with serving(bundle_folder, tmp_path) as client:
        read_problem(predict(client, jpeg_announcing(SIDE, SIDE)), 413, "too_many_pixels")
        for data, _ in slow_files().values():
            read_problem(predict(client, data), 400, "invalid_image")
        for data in polyglots().values():
            read_prediction(predict(client, data))
        for _, data in corpus(200, seed=1):
            assert predict(client, data).status_code in (200, 400, 413)
        svg = b"<svg xmlns='http://www.w3.org/2000/svg' width='4' height='4'/>"
        read_problem(predict(client, svg, "image/svg+xml"), 415, "not_an_image_type")
        read_problem(predict(client, svg), 400, "invalid_image")
        read_problem(predict(client, b"%PDF-1.7\n", "application/pdf"), 415, "not_an_image_type")
        read_prediction(predict(client, sound_files()["jpeg"], "image/png"))
        log = (tmp_path / "server.log").read_text()
    assert "tempfile.tif" not in log
    assert "Warning" not in log

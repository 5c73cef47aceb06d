"""What EXIF tells of a picture's orientation, and what is made of nonsense."""

from io import BytesIO

import pytest
from PIL import Image

from conftest import random_picture
from oodgate.images.orientation import orientation, turned_upright


def opened(told: object) -> Image.Image:
    exif, file = Image.Exif(), BytesIO()
    if told is not None:
        exif[0x0112] = told
    random_picture(0, 6, 4).save(file, "JPEG", exif=exif)
    return Image.open(file)


@pytest.mark.parametrize("told", range(1, 9))
def test_each_of_exifs_eight_is_read(told: int) -> None:
    assert orientation(opened(told)) == told


@pytest.mark.parametrize("told", [None, 0, 9, 65535], ids=str)
def test_a_picture_of_which_nothing_else_is_told_is_upright(told: object) -> None:
    picture = opened(told)
    assert orientation(picture) == 1
    assert turned_upright(picture) is picture


@pytest.mark.parametrize("error", [ValueError(), KeyError(), SyntaxError(), RecursionError()], ids=repr)
def test_exif_that_cannot_be_read_says_nothing(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = opened(6)

    def fail() -> Image.Exif:
        raise error

    monkeypatch.setattr(picture, "getexif", fail)
    assert orientation(picture) == 1


@pytest.mark.parametrize("told", ["left", [6, 8]], ids=str)
def test_what_is_no_number_says_nothing(told: object, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = opened(6)
    monkeypatch.setattr(picture, "getexif", lambda: {0x0112: told})
    assert orientation(picture) == 1


def test_a_turned_picture_is_turned_back() -> None:
    assert turned_upright(opened(6)).size == (4, 6)

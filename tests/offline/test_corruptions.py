"""The corruptions: what they promise to the caller, not how they look."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from oodgate.errors import CalibrationError
from oodgate.offline.corruptions import CORRUPTIONS, corrupt, severities

# The constants of the others trade one effect for another: snow falls thicker but slower, glass shuffles less often.
GROWING = sorted(set(CORRUPTIONS) - {"glass_blur", "snow", "frost", "fog"})
DRAWING = sorted(
    set(CORRUPTIONS) - {"defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate"} - {"jpeg_compression"}
)


def picture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """A bright disc on a darker, coloured gradient with some grain: edges, slopes and texture."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width] / min(height, width)
    centre = generator.uniform(0.3, 0.7, 2)
    disc = np.hypot(rows - centre[0], columns - centre[1]) < 0.25
    slope = np.stack([40 + 60 * rows, 60 + 40 * columns, 80 - 30 * rows], axis=2)
    grain = generator.normal(0, 8, (height, width, 3))
    return np.clip(slope + 90 * disc[..., None] + grain, 0, 255).astype(np.uint8)


def difference(image: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    return float(np.abs(image.astype(np.float64) - other).mean())


def test_there_are_the_fifteen_of_imagenet_c():
    assert len(set(CORRUPTIONS)) == len(CORRUPTIONS) == 15


@pytest.mark.parametrize("side", [32, 96])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_keeps_shape_and_type_and_changes_the_picture_at_every_severity(name, side):
    image = picture(side, side)
    for severity in severities(side):
        corrupted = corrupt(image, name, severity, seed=1)
        assert (corrupted.shape, corrupted.dtype) == (image.shape, np.uint8)
        assert difference(image, corrupted) > 0.5


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_takes_pictures_that_are_not_square(name):
    assert corrupt(picture(33, 70), name, 2, seed=1).shape == (33, 70, 3)


@pytest.mark.parametrize("side", [32, 96])
@pytest.mark.parametrize("name", GROWING)
def test_grows_with_severity_on_average(name, side):
    images = [picture(side, side, seed) for seed in range(8)]
    means = [
        np.mean([difference(image, corrupt(image, name, severity, seed)) for seed, image in enumerate(images)])
        for severity in severities(side)
    ]
    assert means == sorted(means)
    assert means[-1] > 1.1 * means[0]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_same_seed_gives_the_same_picture_whatever_was_drawn_before(name):
    image = picture(32, 32)
    first = corrupt(image, name, 2, seed=5)
    np.random.random(7)
    corrupt(image, "shot_noise", 1, seed=9)
    np.testing.assert_array_equal(corrupt(image, name, 2, seed=5), first)


@pytest.mark.parametrize("name", DRAWING)
def test_another_seed_gives_another_picture(name):
    image = picture(32, 32)
    assert difference(corrupt(image, name, 2, seed=5), corrupt(image, name, 2, seed=6)) > 0


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_leaves_the_global_generator_and_the_input_as_they_were(name):
    image = picture(32, 32)
    copy = image.copy()
    image.flags.writeable = False
    np.random.seed(3)
    expected = np.random.random(4)
    np.random.seed(3)
    corrupt(image, name, 2, seed=5)
    np.testing.assert_array_equal(np.random.random(4), expected)
    np.testing.assert_array_equal(image, copy)


def test_the_global_generator_is_put_back_after_a_failure(monkeypatch):
    def broken(*_args):
        np.random.random()
        raise RuntimeError("broken")

    monkeypatch.setattr("imagecorruptions.corrupt", broken)
    np.random.seed(3)
    expected = np.random.random()
    np.random.seed(3)
    with pytest.raises(RuntimeError):
        corrupt(picture(32, 32), "fog", 1, seed=5)
    assert np.random.random() == expected


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_result_can_be_written_to(name):
    assert corrupt(picture(32, 32), name, 1, seed=0).flags.writeable


@pytest.mark.parametrize("value", [0, 128, 255])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_flat_pictures_raise_no_warning(name, value):
    assert corrupt(np.full((32, 32, 3), value, np.uint8), name, 3, seed=0).shape == (32, 32, 3)


def test_threads_get_what_one_thread_gets():
    image = picture(32, 32)
    alone = [corrupt(image, "gaussian_noise", 1, seed) for seed in range(40)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda seed: corrupt(image, "gaussian_noise", 1, seed), range(40)))
    np.testing.assert_array_equal(together, alone)


def test_small_pictures_are_refused_with_their_size():
    with pytest.raises(CalibrationError, match=r"32 x 32 pixels or more, not 28 x 40"):
        corrupt(picture(28, 40), "fog", 1, seed=0)


@pytest.mark.parametrize(("name", "severity"), [("speckle_noise", 1), ("fog", 0), ("fog", 6)])
def test_unknown_names_and_severities_are_refused(name, severity):
    with pytest.raises(ValueError, match=r"(must be|expected) one of"):
        corrupt(picture(32, 32), name, severity, seed=0)


@pytest.mark.parametrize(("side", "expected"), [(32, (1, 2, 3)), (63, (1, 2, 3)), (64, (1, 2, 3, 4, 5))])
def test_small_pictures_get_the_lower_severities(side, expected):
    assert severities(side) == expected

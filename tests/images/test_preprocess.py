"""Preprocessing against torchvision's transforms of the picture, pixel for pixel; bilinear within one grey level."""

import subprocess
import sys
from math import prod

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError
from torchvision.transforms.v2 import CenterCrop, Compose, InterpolationMode, Resize

from conftest import random_picture
from oodgate.images.bilinear import resize_bilinear
from oodgate.images.preprocess import Preprocessing, preprocess

SIZES = [(1, 1), (1, 7), (7, 1), (5, 8), (16, 16), (16, 40), (33, 17), (64, 64), (97, 131), (200, 51), (18, 500)]
TARGETS = [(1, (1, 1)), (16, (16, 16)), (32, (32, 32)), (37, (32, 32)), (40, (33, 18)), (64, (56, 55))]
SQUASHED = [((1, 1), (1, 1)), ((16, 16), (16, 16)), ((40, 24), (40, 24)), ((24, 40), (20, 33))]

MADE_WHOLE = 1_000_000  # resized pixels, up to which the result is torchvision's to the bit; but for bilinear


Resized = int | tuple[int, int]


def transform(
    resize: Resized, crop: tuple[int, int], interpolation: str = "bilinear", **fields: object
) -> Preprocessing:
    settings = {"resize": resize, "crop": crop, "interpolation": interpolation, "mean": (0, 0, 0), "std": (1, 1, 1)}
    return Preprocessing(**settings | fields)


def torchvision_answer(picture: Image.Image, wanted: Preprocessing) -> np.ndarray:
    mode = InterpolationMode(wanted.interpolation)
    steps = Compose([Resize(wanted.resize, mode, antialias=True), CenterCrop(list(wanted.crop))])
    return np.array(steps(picture))


def assert_as_torchvision(picture: Image.Image, wanted: Preprocessing) -> None:
    found, expected = preprocess(np.array(picture), wanted), torchvision_answer(picture, wanted)
    assert found.shape == expected.shape
    whole = prod(Resize(wanted.resize)(picture).size) <= MADE_WHOLE and wanted.interpolation != "bilinear"
    assert np.abs(found.astype(int) - expected).max() <= (0 if whole else 1), f"{picture}"


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("resize", "crop"), [*TARGETS, *SQUASHED])
def test_pixels_equal_torchvision(resize: Resized, crop: tuple[int, int], interpolation: str) -> None:
    wanted = transform(resize, crop, interpolation)
    for width, height in SIZES:
        assert_as_torchvision(random_picture(width, width, height), wanted)


@pytest.mark.parametrize("interpolation", ["nearest", "lanczos"])
def test_other_interpolations_equal_torchvision(interpolation: str) -> None:
    wanted, picture = transform(40, (32, 30), interpolation), random_picture(0, 97, 131)
    np.testing.assert_array_equal(preprocess(np.array(picture), wanted), torchvision_answer(picture, wanted))


def test_interpolations_differ() -> None:
    picture = np.array(random_picture(0, 97, 131))
    names = ("nearest", "bilinear", "bicubic", "lanczos")
    assert len({preprocess(picture, transform(32, (32, 32), name)).tobytes() for name in names}) == 4


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 120),
    st.integers(1, 120),
    st.integers(1, 48).flatmap(lambda side: st.tuples(st.just(side), st.integers(1, side), st.integers(1, side))),
    st.booleans(),
    st.sampled_from(["bilinear", "bicubic"]),
)
def test_pixels_equal_torchvision_at_any_size(
    short: int, long: int, target: tuple[int, int, int], squashed: bool, interpolation: str
) -> None:
    resize = (target[0], target[1] + target[2]) if squashed else target[0]
    wanted = transform(resize, target[1:], interpolation)
    for width, height in ((short, long), (long, short)):
        assert_as_torchvision(random_picture(width, width, height), wanted)


@pytest.mark.parametrize("size", [(16, 16), (40, 24), (100, 100)])
def test_output_is_contiguous_writable_uint8(size: tuple[int, int]) -> None:
    pixels = preprocess(np.array(random_picture(0, *size)), transform(16, (12, 16)))
    assert (pixels.shape, pixels.dtype) == ((12, 16, 3), np.uint8)
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable
    torch.from_numpy(pixels)  # warns, and so fails, where the pixels cannot be written


def test_picture_of_the_right_size_is_unchanged_and_not_shared() -> None:
    picture = np.array(random_picture(0))
    before = picture.copy()
    pixels = preprocess(picture, transform(16, (16, 16)))
    np.testing.assert_array_equal(pixels, before)
    pixels[:] = 0
    np.testing.assert_array_equal(picture, before)


def test_crop_is_height_by_width() -> None:
    assert preprocess(np.array(random_picture(0, 64, 64)), transform(64, (10, 50))).shape == (10, 50, 3)


def test_a_squashed_picture_is_seen_whole() -> None:
    halves = np.zeros((20, 400, 3), np.uint8)
    halves[:, 200:] = 255
    pixels = preprocess(halves, transform((16, 16), (16, 16), "nearest"))
    np.testing.assert_array_equal(pixels, np.repeat(halves[:16, 192:208, :], 1, axis=0))


@pytest.mark.parametrize("upright", [False, True])
def test_far_ends_of_a_long_picture_change_nothing(upright: bool) -> None:
    size = (10, 1000) if upright else (1000, 10)
    picture, wanted = random_picture(0, *size), transform(16, (16, 14), "bicubic")
    np.testing.assert_array_equal(preprocess(np.array(picture), wanted), torchvision_answer(picture, wanted))


@pytest.mark.parametrize("size", [(1, 1_000_000), (1_000_000, 1)])
def test_extreme_aspect_ratio_is_never_resized_whole(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    resized, resize = [], Image.Image.resize

    def recording_resize(image: Image.Image, size: tuple[int, int], *options: object) -> Image.Image:
        resized.append(size)
        return resize(image, size, *options)

    monkeypatch.setattr(Image.Image, "resize", recording_resize)
    pixels = preprocess(np.array(Image.new("RGB", size, (10, 20, 30))), transform(32, (32, 32), "bicubic"))
    np.testing.assert_array_equal(pixels, np.full((32, 32, 3), (10, 20, 30)))
    assert resized == [(32, 32)]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("size", [(40, 200), (200, 41), (300, 301), (1500, 1600), (2, 9), (1, 5), (700, 70)])
@pytest.mark.parametrize(
    ("resize", "crop"), [(1030, (64, 33)), (1101, (1, 1)), (1301, (500, 640)), ((900, 1400), (60, 70))]
)
def test_crop_of_a_huge_resized_picture_is_nearly_torchvisions(
    resize: Resized, crop: tuple[int, int], size: tuple[int, int], interpolation: str
) -> None:
    blurred = random_picture(1, 1 + size[0] // 3, 1 + size[1] // 3).resize(size, Image.Resampling.BICUBIC)
    assert_as_torchvision(blurred, transform(resize, crop, interpolation))


def test_nearest_crop_of_a_huge_resized_picture_shows_the_right_place() -> None:
    columns, rows = np.meshgrid(np.arange(250), np.arange(150))
    picture = Image.fromarray(np.stack([columns, rows, columns], 2).astype(np.uint8))
    assert_as_torchvision(picture, transform(2000, (200, 170), "nearest"))


MOST_BYTES = """
import resource, sys
import numpy as np
from oodgate.images.preprocess import Preprocessing, preprocess
wanted = Preprocessing(resize=4096, crop=(4096, 4096), interpolation=sys.argv[1], mean=(0, 0, 0), std=(1, 1, 1))
preprocess(np.zeros((64, 64, 3), np.uint8), wanted.model_copy(update={"resize": 32, "crop": (32, 32)}))
picture = np.zeros((32 * 32, 32, 3), np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
preprocess(picture, wanted)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the unit of the resident size is the system's")
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_largest_crop_of_a_long_picture_takes_memory_for_the_crop_alone(interpolation: str) -> None:
    command = [sys.executable, "-c", MOST_BYTES, interpolation]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 300, "MiB: the crop has 48, and 64 as Pillow keeps it"


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"resize": 16, "crop": (17, 16)}, "must lie between 1 and the resized side, 16"),
        ({"resize": 16, "crop": (16, 17)}, "must lie between 1 and the resized side, 16"),
        ({"resize": 16, "crop": (0, 16)}, "must lie between 1 and the resized side, 16"),
        ({"resize": (16, 32), "crop": (17, 16)}, r"must lie between 1 and the resized side, \(16, 32\)"),
        ({"resize": (32, 16), "crop": (16, 17)}, r"must lie between 1 and the resized side, \(32, 16\)"),
        ({"resize": (32, 0), "crop": (16, 16)}, "greater than or equal to 1"),
        ({"resize": (4097, 32), "crop": (16, 16)}, "less than or equal to 4096"),
        ({"resize": 0, "crop": (1, 1)}, "greater than or equal to 1"),
        ({"resize": 5000, "crop": (1, 1)}, "less than or equal to 4096"),
        ({"resize": 16, "crop": (16, 16), "std": (1, 0, 1)}, "must be positive"),
        ({"resize": 16, "crop": (16, 16), "interpolation": "box"}, "'nearest', 'bilinear', 'bicubic' or 'lanczos'"),
        ({"resize": 16, "crop": (16, 16), "colour": "grey"}, "Extra inputs are not permitted"),
    ],
)
def test_impossible_transforms_are_refused(fields: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        transform(**fields)


def test_resized_pixels_have_their_colours_side_by_side_without_a_copy() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    assert resize_bilinear(pixels, height=30, width=40).flags.c_contiguous

"""One contract for every family of strange pictures, then what each family must look like."""

import numpy as np
import pytest

from oodgate.offline.strangeness.catalogue import FAMILIES
from oodgate.offline.strangeness.mixtures import blends, collages, halves, insets, negatives, rotated_colours
from oodgate.offline.strangeness.noise import (
    block_noise,
    brown_noise,
    grey_noise,
    hue_noise,
    pink_noise,
    white_noise,
)
from oodgate.offline.strangeness.plain import flat_colours, linear_gradients, radial_gradients
from oodgate.offline.strangeness.repeats import mirrored_tiles, tiles, zoomed_crops
from oodgate.offline.strangeness.shuffles import (
    patch_shuffles_2,
    patch_shuffles_4,
    phase_scrambles,
    pixel_shuffles,
)
from oodgate.offline.strangeness.symbols import angular_symbols, coloured_symbols, curved_symbols
from oodgate.offline.strangeness.textures import checkerboards, dots, gratings, stripes, voronoi_cells, weaves

SHAPES = [(1, 32, 32, 3), (5, 24, 40, 3), (3, 33, 47, 3), (2, 64, 64, 3)]
FROM_PICTURES = [
    *(blends, halves, collages, insets, negatives, rotated_colours, patch_shuffles_2, patch_shuffles_4),
    *(pixel_shuffles, phase_scrambles, tiles, mirrored_tiles, zoomed_crops),
]


def photographs(shape, seed=0):
    """Smooth random fields in the middle of the range, so that nothing clips."""
    generator = np.random.default_rng(seed)
    count, height, width, _ = shape
    rows, columns = (np.arange(side)[:, None] for side in (height, width))
    field = np.zeros(shape)
    for _ in range(6):
        turns, phases = generator.uniform(-2, 2, (2, count, 1, 1, 3)), generator.uniform(0, 6, (count, 1, 1, 3))
        place = turns[0] * rows[:, None] / height + turns[1] * columns[None] / width
        field += np.sin(2 * np.pi * place + phases)
    grain = generator.normal(0, 3, shape)
    return np.clip(128 + 9 * field + grain, 0, 255).astype(np.uint8)


def made(family, shape=(50, 32, 32, 3), seed=0):
    pictures = photographs(shape)
    return pictures, family(pictures, np.random.default_rng(seed))


def sorted_pixels(picture):
    pixels = picture.reshape(-1, 3)
    return pixels[np.lexsort(pixels.T)]


def steepness(pictures):
    """Mean absolute step between neighbours relative to the spread: high for fine textures."""
    values = pictures.astype(np.float64)
    return np.abs(np.diff(values, axis=2)).mean() / values.std()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", FAMILIES)
def test_gives_as_many_pictures_of_the_same_shape(name, shape):
    _, strange = made(FAMILIES[name], shape)
    assert (strange.shape, strange.dtype) == (shape, np.uint8)


@pytest.mark.parametrize("name", FAMILIES)
def test_is_a_pure_function_of_pictures_and_generator(name):
    pictures = photographs((4, 24, 40, 3))
    before = pictures.copy()
    pictures.flags.writeable = False
    first = FAMILIES[name](pictures, np.random.default_rng(7))
    for other in FAMILIES.values():
        other(pictures, np.random.default_rng(1))
    np.testing.assert_array_equal(FAMILIES[name](pictures, np.random.default_rng(7)), first)
    np.testing.assert_array_equal(pictures, before)


@pytest.mark.parametrize("name", FAMILIES)
def test_leaves_the_global_generator_as_it_was(name):
    np.random.seed(3)
    expected = np.random.random()
    np.random.seed(3)
    made(FAMILIES[name], (2, 32, 32, 3))
    assert np.random.random() == expected


@pytest.mark.parametrize("name", FAMILIES)
def test_changes_every_picture_and_repeats_none(name):
    pictures, strange = made(FAMILIES[name])
    assert (np.abs(strange.astype(int) - pictures).mean((1, 2, 3)) > 1).all()
    assert len(np.unique(strange.reshape(50, -1), axis=0)) == 50


@pytest.mark.parametrize("name", FAMILIES)
def test_a_picture_alone_becomes_strange_too(name):
    pictures, strange = made(FAMILIES[name], (1, 32, 32, 3))
    assert np.abs(strange.astype(int) - pictures).mean() > 1


@pytest.mark.parametrize("name", sorted(set(FAMILIES) - {"negatives"}))
def test_another_seed_gives_other_pictures(name):
    assert not np.array_equal(made(FAMILIES[name], seed=1)[1], made(FAMILIES[name], seed=2)[1])


@pytest.mark.parametrize("name", FAMILIES)
def test_only_what_is_made_from_pictures_depends_on_their_pixels(name):
    dark, bright = np.full((3, 32, 32, 3), (10, 20, 30), np.uint8), np.full((3, 32, 32, 3), (200, 210, 220), np.uint8)
    same = np.array_equal(*(FAMILIES[name](pictures, np.random.default_rng(0)) for pictures in (dark, bright)))
    assert same != (FAMILIES[name] in FROM_PICTURES)


def test_every_public_family_is_in_the_catalogue_under_its_own_name():
    assert all(name == family.__name__ for name, family in FAMILIES.items())
    assert len(set(FAMILIES.values())) == 31


def test_white_noise_is_uniform_and_independent():
    _, strange = made(white_noise)
    values = strange.astype(np.float64) - 127.5
    assert abs(values.mean()) < 1
    assert values.std() == pytest.approx(73.9, abs=0.5)
    assert abs((values[:, :, 1:] * values[:, :, :-1]).mean()) / values.var() < 0.01


@pytest.mark.parametrize(("family", "exponent"), [(pink_noise, 1), (brown_noise, 2), (grey_noise, 0.5)])
def test_coloured_noise_falls_with_its_exponent(family, exponent):
    _, strange = made(family, (50, 64, 64, 3))
    amplitude = np.abs(np.fft.fft2(strange.astype(np.float64), axes=(1, 2))).mean((0, 3))
    measured = np.log(amplitude[0, 2] / amplitude[0, 10]) / np.log(5)
    assert measured == pytest.approx(exponent, abs=0.15)


def test_grey_noise_has_one_channel():
    _, strange = made(grey_noise)
    assert (strange == strange[..., :1]).all()


def test_hue_noise_is_fully_saturated_and_has_all_hues():
    _, strange = made(hue_noise)
    assert (strange.max(3) == 255).all()
    assert (strange.min(3) == 0).all()
    assert {0, 1, 2} == set(strange.argmax(3).ravel())


def test_block_noise_has_few_colours_in_cells():
    _, strange = made(block_noise)
    counts = [len(np.unique(picture.reshape(-1, 3), axis=0)) for picture in strange]
    assert (min(counts), max(counts)) == (4, 144)


def test_flat_colours_are_constant():
    _, strange = made(flat_colours)
    assert (strange == strange[:, :1, :1]).all()


def test_linear_gradients_change_by_the_same_step_everywhere():
    _, strange = made(linear_gradients)
    for axis in (1, 2):
        assert np.abs(np.diff(strange.astype(int), n=2, axis=axis)).max() <= 2
    assert (np.ptp(strange, axis=(1, 2)) > 60).all()


def test_radial_gradients_have_an_end_inside_the_picture():
    _, strange = made(radial_gradients)
    inner = strange[:, 4:-4, 4:-4].astype(int)
    extreme = (inner.max((1, 2)) >= strange.max((1, 2))) | (inner.min((1, 2)) <= strange.min((1, 2)))
    assert extreme.all()
    assert (np.ptp(strange, axis=(1, 2)) > 40).all()


@pytest.mark.parametrize("family", [stripes, checkerboards, dots])
def test_two_coloured_textures_hold_both_colours_and_little_between(family):
    _, strange = made(family, (50, 96, 96, 3))
    low, high = (end.astype(int) for end in (strange.min((1, 2)), strange.max((1, 2))))
    assert (high - low > 60).all()
    near = np.minimum(strange - low[:, None, None], high[:, None, None] - strange) <= 8
    assert near.mean() > 0.6


@pytest.mark.parametrize("family", [stripes, gratings, checkerboards, dots, weaves, voronoi_cells])
def test_textures_have_edges_all_over(family):
    _, strange = made(family)
    quarters = np.stack([strange[:, :16, :16], strange[:, :16, 16:], strange[:, 16:, :16], strange[:, 16:, 16:]])
    assert (quarters.std((2, 3)).max(-1) > 5).all()
    assert steepness(strange) > 3 * steepness(made(linear_gradients)[1])


@pytest.mark.parametrize("family", [stripes, gratings])
def test_stripes_and_gratings_are_one_wave(family):
    _, strange = made(family, (50, 64, 64, 3))
    channel = strange[..., 0].astype(np.float64)
    window = np.hanning(64)[:, None] * np.hanning(64)
    power = np.abs(np.fft.fft2((channel - channel.mean((1, 2), keepdims=True)) * window)) ** 2
    assert (np.sort(power.reshape(50, -1))[:, -24:].sum(1) / power.sum((1, 2)) > 0.7).all()


def test_voronoi_cells_have_one_colour_each():
    _, strange = made(voronoi_cells)
    counts = [len(np.unique(picture.reshape(-1, 3), axis=0)) for picture in strange]
    assert 12 <= min(counts) <= max(counts) <= 24


@pytest.mark.parametrize("family", [angular_symbols, curved_symbols, coloured_symbols])
def test_symbols_are_a_minority_of_ink_on_a_flat_ground(family):
    _, strange = made(family, (200, 32, 32, 3))
    is_ground = (strange == strange[:, :1, :1]).all(3).mean((1, 2))
    assert is_ground.min() > 0.5
    assert is_ground.max() < 0.99


@pytest.mark.parametrize("family", [angular_symbols, curved_symbols])
def test_grey_symbols_come_dark_on_light_and_light_on_dark(family):
    _, strange = made(family)
    ground = strange[:, 0, 0, 0].astype(int)
    ink = np.where(ground > 127, strange.min((1, 2, 3)), strange.max((1, 2, 3)))
    assert (strange == strange[..., :1]).all()
    assert (np.abs(ink - ground) > 140).all()
    assert 10 < (ground > 127).sum() < 40


def test_edges_of_symbols_are_smooth():
    _, strange = made(angular_symbols)
    shades = [len(np.unique(picture)) for picture in strange]
    assert min(shades) > 5


def test_blends_lie_between_their_parents():
    pictures, strange = made(blends, (2, 32, 32, 3))
    low, high = pictures.min(0), pictures.max(0)
    assert ((low <= strange) & (strange <= high)).all()
    for blend in strange:
        weights = [np.corrcoef(blend.ravel(), parent.ravel())[0, 1] for parent in pictures]
        assert min(weights) > 0.3


def test_halves_take_each_pixel_from_one_parent_and_as_many_from_both():
    pictures, strange = made(halves, (2, 24, 40, 3))
    for index, picture in enumerate(strange):
        own = (picture == pictures[index]).all(2)
        other = (picture == pictures[1 - index]).all(2)
        assert (own | other).all()
        assert own.mean() == pytest.approx(0.5, abs=0.05)


def test_collages_keep_a_quarter_of_each_picture_in_its_place():
    pictures, strange = made(collages, (9, 24, 40, 3))
    for index, picture in enumerate(strange):
        np.testing.assert_array_equal(picture[:12, :20], pictures[index, :12, :20])
        upper, lower, left, right = slice(12), slice(12, None), slice(20), slice(20, None)
        for rows, columns in ((upper, right), (lower, left), (lower, right)):
            matches = [np.array_equal(picture[rows, columns], other[rows, columns]) for other in pictures]
            assert sum(matches) == 1
            assert not matches[index]


def test_insets_put_a_quarter_of_another_picture_somewhere():
    pictures, strange = made(insets, (8, 24, 40, 3))
    places = set()
    for index, picture in enumerate(strange):
        changed = (picture != pictures[index]).any(2)
        rows, columns = np.nonzero(changed.any(1))[0], np.nonzero(changed.any(0))[0]
        assert 10 <= np.ptp(rows) + 1 <= 12
        assert 17 <= np.ptp(columns) + 1 <= 20
        places.add((rows[0], columns[0]))
    assert len(places) > 4


def test_negatives_are_their_own_inverse():
    pictures, strange = made(negatives)
    np.testing.assert_array_equal(strange.astype(int) + pictures, 255)


def test_rotated_colours_keep_the_values_of_each_pixel_but_move_all_channels():
    pictures, strange = made(rotated_colours)
    np.testing.assert_array_equal(np.sort(strange, axis=3), np.sort(pictures, axis=3))
    for picture, original in zip(strange, pictures, strict=True):
        assert any(np.array_equal(picture, np.roll(original, shift, axis=2)) for shift in (1, 2))


@pytest.mark.parametrize("family", [patch_shuffles_2, patch_shuffles_4, pixel_shuffles])
@pytest.mark.parametrize("shape", [(5, 32, 32, 3), (5, 24, 40, 3), (5, 33, 47, 3)])
def test_shuffles_keep_the_pixels(family, shape):
    for original, shuffled in zip(*made(family, shape), strict=True):
        np.testing.assert_array_equal(sorted_pixels(shuffled), sorted_pixels(original))


@pytest.mark.parametrize(("family", "grid"), [(patch_shuffles_2, 2), (patch_shuffles_4, 4)])
def test_patch_shuffles_move_every_patch_whole(family, grid):
    pictures, strange = made(family, (20, 24, 40, 3))
    height, width = 24 // grid, 40 // grid
    corners = [(row * height, column * width) for row in range(grid) for column in range(grid)]
    for original, shuffled in zip(pictures, strange, strict=True):
        cut, moved = (
            [picture[y : y + height, x : x + width].tobytes() for y, x in corners] for picture in (original, shuffled)
        )
        assert sorted(cut) == sorted(moved)
        assert all(before != after for before, after in zip(cut, moved, strict=True))


@pytest.mark.parametrize("shape", [(10, 32, 32, 3), (10, 24, 40, 3), (10, 33, 47, 3)])
def test_phase_scrambles_keep_amplitudes_and_mean_and_lose_the_picture(shape):
    pictures, strange = made(phase_scrambles, shape)
    before, after = (np.abs(np.fft.fft2(side.astype(np.float64), axes=(1, 2))) for side in (pictures, strange))
    assert np.corrcoef(before[:, 1:, 1:].ravel(), after[:, 1:, 1:].ravel())[0, 1] > 0.99
    np.testing.assert_allclose(strange.mean((1, 2)), pictures.mean((1, 2)), atol=1)
    alike = [np.corrcoef(one.ravel(), other.ravel())[0, 1] for one, other in zip(pictures, strange, strict=True)]
    assert np.mean(alike) < 0.5


def test_tiles_repeat_after_a_period_in_both_directions():
    pictures, strange = made(tiles, (20, 24, 40, 3))
    for original, tiled in zip(pictures, strange, strict=True):
        periods = [(part, 24 // part, 40 // part) for part in range(2, 7)]
        found = [
            (rows, columns)
            for _, rows, columns in periods
            if np.array_equal(tiled[rows:], tiled[:-rows]) and np.array_equal(tiled[:, columns:], tiled[:, :-columns])
        ]
        assert found
        rows, columns = found[-1]
        windows = np.lib.stride_tricks.sliding_window_view(original, (rows, columns, 3)).reshape(-1, rows, columns, 3)
        assert (windows == tiled[:rows, :columns]).all((1, 2, 3)).any()


def test_mirrored_tiles_meet_their_reflection_without_a_seam():
    def reflects(picture, side):
        return np.array_equal(picture[side - 1 :: -1], picture[side : 2 * side])

    _, strange = made(mirrored_tiles, (20, 24, 40, 3))
    for tiled in strange:
        assert any(reflects(tiled, 24 // part) and reflects(tiled.swapaxes(0, 1), 40 // part) for part in range(2, 7))


def test_zoomed_crops_are_smoother_than_their_originals():
    pictures, strange = made(zoomed_crops)
    assert steepness(strange) < 0.5 * steepness(pictures)
    assert strange.min() >= pictures.min() - 10
    assert strange.max() <= pictures.max() + 10

from base64 import b64decode
from collections.abc import Iterator
from io import BytesIO

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image
from sklearn.metrics import roc_curve

from oodgate.offline.measures import fpr95
from oodgate.offline.plots import (
    KNOWN_COLOUR,
    encode_figure,
    plot_channels,
    plot_families,
    plot_p_values,
    plot_roc,
    plot_scores,
    plot_sensitivity,
    set_colours,
)

noise = np.random.default_rng(0)
KNOWN = noise.normal(3, 1, 400)
STRANGE = {"textures": noise.normal(0, 1, 300), "places": noise.normal(2, 1, 100)}
COLOURS = set_colours("cifar10", STRANGE)


@pytest.fixture(autouse=True)
def no_global_setting_changes() -> Iterator[None]:
    before = dict(matplotlib.rcParams)
    yield
    assert dict(matplotlib.rcParams) == before


def lines_of(axes: Axes, colour: str) -> list[tuple[np.ndarray, np.ndarray]]:
    found = [line for line in axes.lines if to_hex(line.get_color()) == colour]
    return [(np.asarray(line.get_xdata()), np.asarray(line.get_ydata())) for line in found]


def texts_of(figure: Figure) -> str:
    found = [text.get_text() for axes in figure.axes for text in (*axes.texts, axes.title, axes._right_title)]
    return "\n".join(found)


def all_figures(seed: int) -> dict[str, Figure]:
    noise = np.random.default_rng(seed)
    channels = {name: noise.random((50, 2)) for name in ("cifar10", *STRANGE)}
    curve = {name: np.linspace(60, 20, 11) for name in STRANGE}
    families = {"fog": {"nap": 40.0, "energy": 70.0, "nap-energy": 72.0}}
    return {
        "scores": plot_scores(KNOWN, STRANGE, 1.2, COLOURS),
        "roc": plot_roc(KNOWN, STRANGE, COLOURS),
        "channels": plot_channels(channels, "cifar10", COLOURS),
        "sensitivity": plot_sensitivity(np.linspace(0, 1, 11), curve, 0.4, ("NAP", "energy"), COLOURS),
        "p_values": plot_p_values(noise.random(200), 0.05),
        "families": plot_families(families, "nap-energy"),
    }


def test_every_score_lies_in_a_bin_and_the_bins_hold_shares() -> None:
    scores = {"textures": np.array([*STRANGE["textures"], 1e6, -1e6])}
    axes = plot_scores(KNOWN, scores, 1.2, COLOURS).axes[0]
    known, strange = (patch.get_data() for patch in axes.patches)  # type: ignore[attr-defined]
    assert known.values.sum() == pytest.approx(1)
    assert strange.values.sum() == pytest.approx(1)
    left = strange.edges <= 0
    assert strange.values[left[1:]].sum() == pytest.approx((scores["textures"] <= strange.edges[left][-1]).mean())


def test_the_scores_show_the_threshold_and_the_share_at_or_above_it() -> None:
    figure = plot_scores(np.array([1.0, 2.0]), {"odd": np.array([0.0, 1.2, 1.3, 0.1])}, 1.2, set_colours("id", ["odd"]))
    assert figure.axes[0].lines[0].get_xdata() == [1.2, 1.2]
    assert "50.0% accepted" in texts_of(figure)


def test_equal_scores_still_make_a_histogram() -> None:
    assert plot_scores(np.ones(5), {"odd": np.ones(5)}, 1.0, set_colours("id", ["odd"])).axes


def test_roc_curves_keep_every_point() -> None:
    axes = plot_roc(KNOWN, STRANGE, COLOURS).axes[0]
    for name, scores in STRANGE.items():
        positive = np.repeat([1, 0], [len(KNOWN), len(scores)])
        wrong, kept, _ = roc_curve(positive, np.concatenate([KNOWN, scores]), drop_intermediate=False)
        curve, _ = lines_of(axes, COLOURS[name])
        np.testing.assert_array_equal(curve, (wrong, kept))


@pytest.mark.parametrize("name", STRANGE)
def test_the_dot_on_the_roc_curve_is_the_measured_fpr95(name: str) -> None:
    _, (x, y) = lines_of(plot_roc(KNOWN, STRANGE, COLOURS).axes[0], COLOURS[name])
    assert 100 * x[0] == pytest.approx(fpr95(KNOWN, STRANGE[name]))
    assert 0.95 <= y[0] < 0.96


def test_channels_of_each_set_stand_beside_in_distribution() -> None:
    channels = {name: noise.random((50, 2)) for name in ("cifar10", *STRANGE)}
    figure = plot_channels(channels, "cifar10", COLOURS)
    for axes, name in zip(figure.axes, STRANGE, strict=True):
        known, strange = (np.asarray(dots.get_offsets()) for dots in axes.collections)
        np.testing.assert_array_equal(known, channels["cifar10"])
        np.testing.assert_array_equal(strange, channels[name])


def test_sensitivity_holds_the_curves_and_marks_w() -> None:
    grid = np.linspace(0, 1, 5)
    curves = {"textures": np.array([50, 20, 10, 30, 60.0]), "places": np.array([50, 40, 40, 50, 61.0])}
    axes = plot_sensitivity(grid, curves, 0.4, ("NAP", "energy"), COLOURS).axes[0]
    for name, values in curves.items():
        [(x, y)] = lines_of(axes, COLOURS[name])
        np.testing.assert_array_equal((x, y), (grid, values))
    assert axes.lines[-1].get_xdata() == [0.4, 0.4]
    heights = sorted(text.get_position()[1] for text in axes.texts)
    assert heights[1] - heights[0] > 2  # labels of curves that end together do not cover each other


def test_no_w_is_marked_where_the_scorer_has_none() -> None:
    curves = {name: np.zeros(2) for name in STRANGE}
    assert len(plot_sensitivity(np.array([0.0, 1.0]), curves, None, ("NAP", "msp"), COLOURS).axes[0].lines) == 2


def test_p_values_are_drawn_as_their_empirical_distribution() -> None:
    p_values = np.array([0.5, 0.01, 0.04, 0.9])
    for axes in plot_p_values(p_values, 0.05).axes:
        (x, y), dot = lines_of(axes, KNOWN_COLOUR)
        np.testing.assert_array_equal(x, [0.01, 0.04, 0.5, 0.9])
        np.testing.assert_array_equal(y, [0.25, 0.5, 0.75, 1])
        assert (dot[0][0], dot[1][0]) == (0.05, 0.5)


def test_family_bars_end_at_the_auroc_and_inverted_families_come_first_in_bold() -> None:
    families = {
        "blur": {"nap": 80.0, "energy": 60.0, "nap-energy": 85.0},
        "fog": {"nap": 30.0, "energy": 70.0, "nap-energy": 65.0},
    }
    axes = plot_families(families, "nap-energy").axes[0]
    ends = [[bar.get_x() + bar.get_width() for bar in bars] for bars in axes.containers]
    assert np.allclose(ends, [[30, 80], [70, 60], [65, 85]])
    assert [(t.get_text(), t.get_weight()) for t in axes.get_yticklabels()] == [("fog", "bold"), ("blur", "normal")]
    assert axes.get_xlim()[0] < 30


@pytest.mark.parametrize("own", ["nap", "energy"])
def test_families_of_a_scorer_that_stands_alone(own: str) -> None:
    assert len(plot_families({"fog": {"nap": 60.0, "energy": 70.0}}, own).axes[0].containers) == 2


def test_a_set_has_one_colour_and_no_two_of_eight_share_one() -> None:
    colours = set_colours("id", [f"set{i}" for i in range(8)])
    assert len(set(colours.values())) == 9


def test_a_name_is_never_read_as_a_formula() -> None:
    name = r"$\frac{1}$"
    colours = set_colours("id", [name])
    assert encode_figure(plot_scores(KNOWN, {name: KNOWN}, 1.2, colours))
    assert encode_figure(plot_roc(KNOWN, {name: KNOWN}, colours))


def test_equal_figures_have_equal_bytes_and_others_have_not() -> None:
    first, again, other = ([encode_figure(figure) for figure in all_figures(seed).values()] for seed in (1, 1, 2))
    assert first == again
    assert first[2] != other[2]


def test_pictures_have_twice_the_density_of_a_screen() -> None:
    figure = plot_p_values(KNOWN, 0.05)
    picture = Image.open(BytesIO(b64decode(encode_figure(figure).removeprefix("data:image/png;base64,"))))
    assert picture.size == pytest.approx(200 * figure.get_size_inches(), abs=1)


def test_a_persons_settings_do_not_change_the_bytes() -> None:
    plain = encode_figure(plot_p_values(KNOWN, 0.05))
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red"}):
        assert encode_figure(plot_p_values(KNOWN, 0.05)) == plain

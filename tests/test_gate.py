"""The gate on a tiny calibrated bundle, against the formulas in float64."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from conftest import TinyNetwork, calibrated, tiny_bundle
from oodgate.bundle import Agreement, Bundle, Calibration, Guarantee, Scorer, load_bundle
from oodgate.engines import load_network, save_network
from oodgate.errors import BundleError, InferenceFailed
from oodgate.gate import CALIBRATION_SCORES, Gate, Verdict, check_decoding, check_precision
from oodgate.pixels import Pixels
from oodgate.scores.methods import WEIGHT
from oodgate.scores.react import CLIP as REACT_CLIP

W = 0.4
MEAN, STD = 0.5, 0.25


class NanWhenWhite(TinyNetwork):
    """A network that overflows on white pictures."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits, activation = super().forward(images)
        white = images.amin((1, 2, 3)) > 1.9  # white is (1 - .5) / .25 = 2
        return logits.masked_fill(white[:, None], float("nan")), activation


@pytest.fixture(scope="module")
def bundle(bundle_folder: Path) -> Bundle:
    return load_bundle(bundle_folder)


@pytest.fixture(scope="module")
def gate(bundle: Bundle) -> Gate:
    return Gate(bundle, "cpu")


def noise(count: int, seed: int = 0) -> list[Pixels]:
    pictures = np.random.default_rng(seed).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)
    return list(pictures)


def verdicts(gate: Gate, images: list[Pixels]) -> list[Verdict]:
    found = gate.judge(images)
    assert all(isinstance(verdict, Verdict) for verdict in found)
    return found  # type: ignore[return-value]


def with_threshold(bundle: Bundle, threshold: float) -> Bundle:
    calibration = bundle.calibration.model_copy(update={"threshold": threshold})
    return Bundle(bundle.manifest.model_copy(update={"calibration": calibration}), bundle.model, bundle.state)


def slow_answer(bundle: Bundle, image: Pixels) -> tuple[np.ndarray, float, float]:
    """Logits, energy and NAP of one image, written out in float64."""
    network = load_network(bundle.model, torch.device("cpu")).double()
    images = torch.from_numpy((image.astype(np.float64) / 255 - MEAN) / STD).permute(2, 0, 1)[None]
    with torch.no_grad():
        logits, activation = (answer[0].numpy() for answer in network(images))
    energy = np.log(sum(np.exp(logit) for logit in logits))
    peaks = [(channel.max() / (channel.mean() + 1)) ** 2 for channel in activation]
    return logits, float(energy), float(np.mean(peaks))


def test_verdicts_equal_the_formulas_in_float64(bundle: Bundle, gate: Gate) -> None:
    known = bundle.state[CALIBRATION_SCORES].double().tolist()
    images = noise(6)
    for image, verdict in zip(images, verdicts(gate, images), strict=True):
        logits, energy, nap = slow_answer(bundle, image)
        assert energy > 0  # so that nothing is clamped
        assert verdict.terms == pytest.approx({"energy": energy, "nap": nap}, rel=1e-5)
        assert verdict.score == pytest.approx(energy**W * nap ** (1 - W), rel=1e-5)
        np.testing.assert_allclose(verdict.probabilities, np.exp(logits) / np.exp(logits).sum(), rtol=1e-5)
        assert verdict.p_value == (1 + sum(score <= verdict.score for score in known)) / (len(known) + 1)
        assert verdict.accepted == (verdict.score >= bundle.calibration.threshold)
        assert not verdict.clamped


def test_a_verdict_says_how_long_its_batch_took(gate: Gate) -> None:
    times = {(verdict.forward_ms, verdict.score_ms) for verdict in verdicts(gate, noise(3))}
    assert len(times) == 1
    assert min(times.pop()) > 0


def test_verdicts_come_in_the_order_of_the_images(gate: Gate) -> None:
    images = noise(5)
    forward, backward = verdicts(gate, images), verdicts(gate, images[::-1])
    scores = [verdict.score for verdict in forward]
    assert len(set(scores)) == 5
    np.testing.assert_allclose([verdict.score for verdict in backward[::-1]], scores, rtol=1e-5)


def test_an_image_scores_the_same_alone_and_in_a_batch(gate: Gate) -> None:
    images = noise(24)
    for image, together in zip(images, verdicts(gate, images), strict=True):
        (alone,) = verdicts(gate, [image])
        assert alone.score == pytest.approx(together.score, rel=1e-5)
        assert alone.terms == pytest.approx(together.terms, rel=1e-5)
        np.testing.assert_allclose(alone.probabilities, together.probabilities, rtol=1e-5)


def test_a_score_that_equals_the_threshold_is_accepted_and_one_below_is_rejected(bundle: Bundle, gate: Gate) -> None:
    image = noise(1)
    (verdict,) = verdicts(gate, image)
    above = float(np.nextafter(np.float64(verdict.score), np.inf))
    assert verdicts(Gate(with_threshold(bundle, verdict.score), "cpu"), image)[0].accepted
    assert not verdicts(Gate(with_threshold(bundle, above), "cpu"), image)[0].accepted


def test_calibration_images_are_rejected_as_often_as_their_ranks_say(bundle: Bundle, gate: Gate) -> None:
    scores = gate.calibration_scores
    guarantee = bundle.calibration.guarantee
    assert np.all(np.diff(scores) >= 0)
    assert (scores < bundle.calibration.threshold).sum() == guarantee.rank - 1
    assert guarantee.images == len(scores) == 200


def test_an_image_whose_answer_is_not_a_number_fails_alone(tmp_path: Path, image_folder: Path) -> None:
    tiny_bundle(tmp_path / "nan", NanWhenWhite())
    bundle = calibrated(tmp_path / "nan", image_folder)
    gate, images = Gate(bundle, "cpu"), noise(4)
    healthy = verdicts(gate, images)
    white = np.full((16, 16, 3), 255, np.uint8)
    mixed = gate.judge([white, *images[:2], white, *images[2:]])
    assert [isinstance(found, InferenceFailed) for found in mixed] == [True, False, False, True, False, False]
    assert "is not a number" in str(mixed[0])
    neighbours = [found for found in mixed if isinstance(found, Verdict)]
    np.testing.assert_allclose(
        [verdict.score for verdict in neighbours], [verdict.score for verdict in healthy], rtol=1e-5
    )


def test_a_clamped_term_is_reported(bundle: Bundle) -> None:
    below = TinyNetwork()
    with torch.no_grad():
        below.fc.bias.fill_(-50)
        below.fc.weight.zero_()
    model = save_network(below.eval(), torch.zeros(2, 3, 16, 16))
    (verdict,) = verdicts(Gate(Bundle(bundle.manifest, model, bundle.state), "cpu"), noise(1))
    assert verdict.clamped
    assert verdict.terms["energy"] == pytest.approx(-50 + np.log(4), rel=1e-6)
    assert verdict.score == pytest.approx(1e-6**W * verdict.terms["nap"] ** (1 - W), rel=1e-5)


def test_a_bundle_without_a_threshold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="has no threshold yet; run `oodgate calibrate`"):
        Gate(tiny_bundle(tmp_path / "tiny"), "cpu")


def test_a_bundle_without_calibration_scores_is_refused(bundle: Bundle) -> None:
    state = {name: tensor for name, tensor in bundle.state.items() if name != CALIBRATION_SCORES}
    with pytest.raises(BundleError, match="'tiny' has a threshold and no calibration scores; run `oodgate calibrate`"):
        Gate(Bundle(bundle.manifest, bundle.model, state), "cpu")


def checked(precision: str, **changed_decisions: float) -> Calibration:
    """A calibration in one number format, with the share of decisions that others change."""
    return Calibration(
        scorer=Scorer(name="nap-energy", w=W),
        threshold=1.0,
        guarantee=Guarantee(kind="pac", alpha=0.05, delta=0.05, images=200, rank=5),
        precision=precision,  # type: ignore[arg-type]
        precision_checks={
            name: Agreement(largest_difference=0.1, changed_decisions=share)
            for name, share in changed_decisions.items()
        },  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_the_precision_of_the_calibration_needs_no_check(precision: str) -> None:
    check_precision("tiny", checked(precision), precision)  # type: ignore[arg-type]


@pytest.mark.parametrize("share", [0.0, 0.005, 0.01])
def test_a_precision_that_changes_at_most_one_per_cent_of_decisions_may_serve(share: float) -> None:
    check_precision("tiny", checked("float32", bfloat16=share), "bfloat16")


def test_a_precision_that_changes_more_decisions_is_refused() -> None:
    with pytest.raises(
        BundleError,
        match=r"^in bfloat16 bundle 'tiny' decides 2.5% of the calibration images otherwise, more than 1%; "
        r"serve it in float32 or calibrate it in bfloat16$",
    ):
        check_precision("tiny", checked("float32", bfloat16=0.025), "bfloat16")


@pytest.mark.parametrize(("calibrated_in", "served_in"), [("float32", "float16"), ("bfloat16", "float32")])
def test_a_precision_that_was_not_checked_is_refused(calibrated_in: str, served_in: str) -> None:
    with pytest.raises(
        BundleError,
        match=rf"was calibrated in {calibrated_in} and not checked in {served_in}; run `oodgate calibrate` with "
        rf"--check-precision {served_in}, or serve it in {calibrated_in}",
    ):
        check_precision("tiny", checked(calibrated_in), served_in)  # type: ignore[arg-type]


@pytest.mark.parametrize(("share", "refused"), [(0.0, False), (0.01, False), (0.011, True)])
def test_images_that_the_device_decodes_may_change_one_per_cent_of_the_decisions(share: float, refused: bool) -> None:
    agreement = Agreement(largest_difference=0.1, changed_decisions=share)
    calibration = checked("float32").model_copy(update={"decoding_checks": {"cpu": agreement}})
    if not refused:
        check_decoding("tiny", calibration, torch.device("cpu"))
        return
    with pytest.raises(BundleError, match=r"with images decoded on cpu bundle 'tiny' decides 1\.1% of the calibration"):
        check_decoding("tiny", calibration, torch.device("cpu"))


def test_a_check_of_one_kind_of_device_says_nothing_of_another() -> None:
    agreement = Agreement(largest_difference=0.0, changed_decisions=0.0)
    calibration = checked("float32").model_copy(update={"decoding_checks": {"cpu": agreement}})
    with pytest.raises(
        BundleError, match="'tiny' was not checked with images decoded on cuda; run `oodgate calibrate`"
    ):
        check_decoding("tiny", calibration, torch.device("cuda"))


def test_the_gate_checks_its_precision_before_it_loads_the_network(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="not checked in bfloat16"):
        Gate(Bundle(bundle.manifest, b"no network", bundle.state), "cpu", "bfloat16")


@pytest.mark.parametrize("scores", [[], [0.5], [1.0] * 199 + [0.5], [float("nan")] * 200, [[1.0] * 100] * 2])
def test_calibration_scores_that_are_not_of_the_calibration_are_refused(bundle: Bundle, scores: list[Any]) -> None:
    state = {**bundle.state, CALIBRATION_SCORES: torch.tensor(scores, dtype=torch.float32)}
    with pytest.raises(BundleError, match="are not those of its 200 calibration images, ascending"):
        Gate(Bundle(bundle.manifest, bundle.model, state), "cpu")


@pytest.mark.parametrize("shape", [(4, 5), (4,), (0, 0)])
def test_a_classifier_that_does_not_fit_the_network_is_refused(bundle: Bundle, shape: tuple[int, ...]) -> None:
    calibration = bundle.calibration.model_copy(update={"scorer": Scorer(name="react")})
    manifest = bundle.manifest.model_copy(update={"calibration": calibration})
    state = {**bundle.state, REACT_CLIP: torch.tensor(1.0), WEIGHT: torch.zeros(shape)}
    with pytest.raises(BundleError, match=r"bundle 'tiny' do not fit its scorer 'react' \(.+\); export and calibrate"):
        Gate(Bundle(manifest, bundle.model, state), "cpu")

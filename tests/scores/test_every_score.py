"""What every registered score promises, whatever it computes."""

import pytest
import torch
from torch import Tensor
from training import CHANNELS, CLASSES, CLASSIFIER, PARAMETERS, SIDE, STATE, W, familiar, score, seeded, strange

from oodgate.errors import SetupError
from oodgate.scores.forward import Forward
from oodgate.scores.registry import COMBINED, METHODS, SCORERS, combine_terms, compute_terms, terms_of

every_scorer = pytest.mark.parametrize("scorer", SCORERS)
every_method = pytest.mark.parametrize("method", METHODS)


def mixed_batch() -> Forward:
    known, unknown = familiar(6, seed=10), strange(5, seed=11)
    return rows_of([known, unknown], torch.randperm(11, generator=seeded(12)))


def rows_of(forwards: list[Forward], rows: Tensor) -> Forward:
    logits = torch.cat([forward.logits for forward in forwards])
    activation = torch.cat([forward.activation for forward in forwards])
    return Forward(logits[rows], activation[rows])


def extremes() -> Forward:
    """Every extreme activation with every extreme of the logits."""
    shape = (CHANNELS, SIDE, SIDE)
    spike, peak_of_one = torch.zeros(shape), torch.zeros(shape)
    spike[3, 1, 2], peak_of_one[0, 0, 0] = 1e4, 1.0
    activations = [
        torch.zeros(shape),
        spike,
        peak_of_one,
        torch.full(shape, 1e4),
        torch.full(shape, 1e-30),
        STATE["fdbd.mean"][:, None, None].expand(shape),
    ]
    one_hot = torch.eye(CLASSES)[0]
    logits = [one_hot * 0, one_hot * 1e4, one_hot * -1e4, one_hot * 0 - 1e4, one_hot * 0 + 1e4, one_hot * 1e-30]
    pairs = [(row, activation) for activation in activations for row in logits]
    return Forward(torch.stack([row for row, _ in pairs]), torch.stack([activation for _, activation in pairs]))


@every_scorer
def test_gives_one_finite_float32_for_each_image(scorer: str) -> None:
    scores = score(scorer, mixed_batch())
    assert scores.shape == (11,)
    assert scores.dtype == torch.float32
    assert scores.isfinite().all()


@every_scorer
def test_is_higher_for_images_like_those_of_training(scorer: str) -> None:
    known, unknown = score(scorer, familiar(20, seed=20)), score(scorer, strange(20, seed=21))
    assert known.min() > unknown.max()


@every_scorer
def test_stays_finite_on_extreme_inputs(scorer: str) -> None:
    forward = extremes()
    assert score(scorer, forward).isfinite().all(), score(scorer, forward)


@every_scorer
def test_is_not_a_number_where_the_network_answers_none(scorer: str) -> None:
    forward = familiar(3, seed=30)
    forward.logits[1], forward.activation[1] = torch.nan, torch.nan
    assert score(scorer, forward).isfinite().tolist() == [True, False, True]


@every_scorer
def test_does_not_depend_on_the_rest_of_the_batch(scorer: str) -> None:
    batch = mixed_batch()
    alone = [score(scorer, rows_of([batch], torch.tensor([row]))) for row in range(11)]
    torch.testing.assert_close(torch.cat(alone), score(scorer, batch), rtol=1e-4, atol=1e-5)


@every_scorer
def test_follows_the_order_of_the_images(scorer: str) -> None:
    batch, order = mixed_batch(), torch.randperm(11, generator=seeded(13))
    permuted = score(scorer, rows_of([batch], order))
    torch.testing.assert_close(permuted, score(scorer, batch)[order], rtol=1e-4, atol=1e-5)


@every_scorer
def test_does_not_care_for_the_memory_layout(scorer: str) -> None:
    batch = mixed_batch()
    transposed = Forward(batch.logits, batch.activation.to(memory_format=torch.channels_last))
    torch.testing.assert_close(score(scorer, transposed), score(scorer, batch), rtol=1e-4, atol=1e-5)


@every_scorer
def test_is_the_same_in_inference_mode(scorer: str) -> None:
    expected = score(scorer, mixed_batch())
    with torch.inference_mode():
        state = {name: tensor.clone() for name, tensor in STATE.items()}
        found = score(scorer, mixed_batch(), state)
    assert found.equal(expected)


@every_scorer
def test_changes_neither_the_forward_nor_the_state(scorer: str) -> None:
    forward, pristine = mixed_batch(), mixed_batch()
    before = {name: tensor.clone() for name, tensor in STATE.items()}
    score(scorer, forward)
    assert forward.logits.equal(pristine.logits)
    assert forward.activation.equal(pristine.activation)
    assert forward.features.equal(pristine.features)
    assert all(STATE[name].equal(tensor) for name, tensor in before.items())


def test_methods_that_share_a_forward_do_not_disturb_each_other() -> None:
    together = compute_terms(METHODS, PARAMETERS, mixed_batch(), STATE)
    for method in METHODS:
        assert together[method].equal(score(method, mixed_batch())), method


@every_method
def test_needs_no_tensors_but_those_it_names(method: str) -> None:
    state = {name: STATE[name] for name in METHODS[method].needs}
    assert score(method, mixed_batch(), state).equal(score(method, mixed_batch()))


@every_method
def test_positive_form_keeps_the_order(method: str) -> None:
    scores = score(method, rows_of([familiar(20, seed=40), strange(20, seed=41)], torch.arange(40))).double()
    positive = METHODS[method].positive(scores)
    assert positive.argsort().equal(scores.argsort())


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.fit])
def test_asks_to_be_fitted_where_its_tensors_are_missing(method: str) -> None:
    with pytest.raises(SetupError, match=f"'{method}' needs to be fitted: run `oodgate calibrate` with --fit FOLDER"):
        compute_terms([method], {}, mixed_batch(), CLASSIFIER)


@pytest.mark.parametrize("scorer", [name for name, combination in COMBINED.items() if combination.fit])
def test_combination_asks_to_be_fitted_where_its_tensors_are_missing(scorer: str) -> None:
    terms = compute_terms(terms_of(scorer), {}, mixed_batch(), CLASSIFIER)
    with pytest.raises(SetupError, match=f"'{scorer}' needs to be fitted"):
        combine_terms(scorer, W, terms, CLASSIFIER)


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if "classifier.weight" in method.needs])
def test_names_the_last_layer_where_the_bundle_has_none(method: str) -> None:
    state = {name: tensor for name, tensor in STATE.items() if not name.startswith("classifier.")}
    with pytest.raises(SetupError, match=f"'{method}' reads the last layer and the bundle lacks classifier.weight"):
        compute_terms([method], {}, mixed_batch(), state)

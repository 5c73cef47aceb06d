"""The table of a batch, recorded once, beside the same operators called one by one."""

import pytest
import torch
from torch import Tensor
from training import CLASSES, PARAMETERS, STATE, W, familiar, score, strange

from oodgate.bundle import Calibration, Guarantee, Scorer
from oodgate.errors import SetupError
from oodgate.score_table import ScoreTable
from oodgate.scores.forward import Forward
from oodgate.scores.registry import SCORERS, needs_w

every_scorer = pytest.mark.parametrize("scorer", SCORERS)


def calibration_of(scorer: str) -> Calibration:
    chosen = Scorer(name=scorer, w=W if needs_w(scorer) else None, parameters=PARAMETERS)
    guarantee = Guarantee(alpha=0.05, delta=None, images=100, rank=5, kind="marginal")
    return Calibration(scorer=chosen, threshold=0.0, temperature=1.5, guarantee=guarantee)


def table_of(scorer: str, recorded: bool) -> ScoreTable:
    table = ScoreTable(calibration_of(scorer), STATE)
    if recorded:
        table.record(familiar(2, seed=1))
    return table


def batch(images: int) -> Forward:
    known, unknown = familiar(images, seed=images), strange(images, seed=images + 1)
    rows = torch.arange(images) % 2 == 0
    logits = torch.where(rows[:, None], known.logits, unknown.logits)
    return Forward(logits, torch.where(rows[:, None, None, None], known.activation, unknown.activation))


@every_scorer
@pytest.mark.parametrize("images", [1, 2, 7, 300])
def test_what_is_recorded_answers_for_every_size_of_batch_as_before(scorer: str, images: int) -> None:
    forward = batch(images)
    found = table_of(scorer, recorded=True).of(forward)
    for answer, expected in zip(found, table_of(scorer, recorded=False).of(forward), strict=True):
        assert torch.equal(answer, expected)


@every_scorer
def test_columns_are_the_score_the_terms_and_the_probabilities(scorer: str) -> None:
    forward, table = batch(5), table_of(scorer, recorded=True)
    numbers, rankings = table.of(forward)
    assert torch.equal(numbers[:, 0], score(scorer, forward))
    for column, term in enumerate(table.terms):
        assert torch.equal(numbers[:, 2 + column], score(term, forward))
    chances = numbers[:, -CLASSES:]
    expected = (forward.logits / 1.5).exp() / (forward.logits / 1.5).exp().sum(1, keepdim=True)
    torch.testing.assert_close(chances, expected)
    assert rankings.tolist() == [sorted(range(CLASSES), key=lambda name, row=row: -row[name]) for row in chances]


@every_scorer
def test_what_is_not_a_number_stays_one_image_s(scorer: str) -> None:
    forward = familiar(3, seed=30)
    forward.logits[1], forward.activation[1] = torch.nan, torch.nan
    numbers, _ = table_of(scorer, recorded=True).of(forward)
    assert numbers[:, 0].isfinite().tolist() == [True, False, True]


def test_an_activation_with_channels_side_by_side_is_taken_as_well() -> None:
    forward = batch(6)
    beside = Forward(forward.logits, forward.activation.contiguous(memory_format=torch.channels_last))
    found, _ = table_of("nap-energy", recorded=True).of(beside)
    expected, _ = table_of("nap-energy", recorded=False).of(forward)
    torch.testing.assert_close(found, expected)


def test_terms_that_had_to_be_clamped_are_marked() -> None:
    logits: Tensor = torch.full((2, CLASSES), -50.0)
    logits[1] = 3.0
    numbers, _ = table_of("nap-energy", recorded=True).of(Forward(logits, batch(2).activation))
    assert numbers[:, 1].tolist() == [1.0, 0.0]


def test_a_state_without_what_the_scorer_needs_is_refused() -> None:
    with pytest.raises(SetupError, match="--fit"):
        ScoreTable(calibration_of("knn"), {}).of(batch(1))

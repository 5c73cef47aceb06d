import numpy as np
import pytest
import torch
from torch import Tensor

from oodgate.offline.choice import Candidate, areas, best_of, choose, choose_w, judge, losing_families, plateau_centre
from oodgate.offline.features import ImageTerms
from oodgate.offline.search import Evidence

IMAGES = 2000


def normal(mean: float, seed: int) -> Tensor:
    """Positive scores around a mean."""
    values = np.random.default_rng(seed).normal(mean, 1, IMAGES).clip(0.1)
    return torch.from_numpy(values.astype(np.float32))


def terms(energy: Tensor, nap: Tensor) -> ImageTerms:
    return ImageTerms({"energy": energy, "nap": nap}, torch.zeros(IMAGES, dtype=torch.int64))


def evidence(**families: tuple[float, float]) -> Evidence:
    """Known images have energy 10 and NAP 10 on average; families are given as (energy, NAP)."""
    made = {
        name: terms(normal(means[0], 2 * number + 10), normal(means[1], 2 * number + 11))
        for number, (name, means) in enumerate(families.items())
    }
    return Evidence(terms(normal(10, 0), normal(10, 1)), made)


def test_nap_is_chosen_where_it_helps_and_nowhere_hurts() -> None:
    choice = choose(evidence(noise=(9, 5), blur=(9, 6)), ["energy", "nap-energy"], None, {})
    assert choice.chosen.scorer == "nap-energy"
    assert choice.chosen.w is not None
    assert choice.chosen.w < 1
    assert "nap-energy" in choice.reasons[0]


def test_energy_stays_where_every_weight_of_nap_loses_on_a_family() -> None:
    choice = choose(evidence(noise=(9, 8), inverted=(6, 16)), ["energy", "nap-energy"], 0.1, {})
    assert str(choice.chosen) == "energy"
    assert any(reason.startswith("nap-energy at w = 0.1") and "inverted" in reason for reason in choice.reasons)


def test_energy_is_the_answer_even_where_it_was_no_candidate() -> None:
    choice = choose(evidence(inverted=(6, 16)), ["nap-energy"], 0.1, {})
    assert choice.chosen.scorer == "energy"


def test_a_weight_that_loses_nowhere_is_found_beside_one_that_is_better_on_average() -> None:
    made = evidence(noise=(9, 4), blur=(9, 4), near=(7.5, 10))
    freely = best_of(made, "nap-energy", None, {})
    safely = choose(made, ["nap-energy"], None, {}).chosen
    energy = judge(made, "energy", None, {})
    assert losing_families(freely, energy) == ["near"]
    assert losing_families(safely, energy) == []
    assert safely.w is not None
    assert freely.w is not None
    assert safely.w > freely.w


def test_a_family_that_passes_weighs_more_than_many_that_are_caught() -> None:
    def candidate(*shares: float) -> Candidate:
        return Candidate("nap", None, {str(n): np.arange(100) < share for n, share in enumerate(shares)})

    assert candidate(30, 40).typical == pytest.approx(np.sqrt(1250))
    assert candidate(10, 10, 70).typical > candidate(30, 35, 35).typical


def test_a_searched_w_says_what_it_loses_and_stays() -> None:
    choice = choose_w(evidence(noise=(9, 4), blur=(9, 4), near=(7.5, 10)), "nap-energy", {})
    assert choice.chosen.scorer == "nap-energy"
    assert choice.reasons[1] == "it loses to energy on near"


def test_a_given_w_is_kept() -> None:
    assert best_of(evidence(noise=(9, 5)), "nap-energy", 0.85, {}).w == 0.85


def test_a_scorer_without_w_gets_none() -> None:
    assert best_of(evidence(noise=(9, 5)), "energy", 0.85, {}).w is None


def test_the_search_ends_at_one_where_nap_only_hurts() -> None:
    assert best_of(evidence(inverted=(7.5, 12)), "nap-energy", None, {}).w == 1.0


def test_the_search_finds_a_w_as_good_as_the_best_of_a_fine_grid() -> None:
    made = evidence(noise=(8.5, 8.5), blur=(9, 7))
    found = best_of(made, "nap-energy", None, {})
    finest = min(judge(made, "nap-energy", float(w), {}).typical for w in np.linspace(0, 1, 101))
    assert found.typical <= finest + 1


@pytest.mark.parametrize(
    ("curve", "centre"),
    [
        ([5, 1, 5], 1),
        ([5, 1.2, 1, 1.4, 5], 2),
        ([1.3, 1.2, 1.1, 1, 9], 1),
        ([1, 9, 1.1, 1.1, 1.1], 0),
        ([1, 1, 1, 1, 1], 2),
    ],
)
def test_the_plateau_is_the_stretch_around_the_lowest_value(curve: list[float], centre: int) -> None:
    assert plateau_centre(np.array(curve)) == centre


def test_a_loss_within_the_noise_is_no_loss() -> None:
    made = evidence(noise=(8, 8))
    energy, other = judge(made, "energy", None, {}), judge(made, "nap-energy", 1.0, {})
    assert other.fpr95 == pytest.approx(energy.fpr95)
    assert losing_families(other, energy) == []


def test_nap_is_reported_below_50_where_it_is_inverted() -> None:
    found = areas(evidence(noise=(9, 5), inverted=(9, 12)), "nap", None, {})
    assert found["noise"] > 99
    assert found["inverted"] < 50

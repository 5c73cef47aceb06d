import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from training import CLASSIFIER, PARAMETERS, STATE, W, familiar, score, statistics_of, strange

from oodgate.errors import SetupError
from oodgate.scores.combine import product
from oodgate.scores.energy import energy
from oodgate.scores.forward import Forward
from oodgate.scores.nap import nap
from oodgate.scores.registry import (
    COMBINED,
    METHODS,
    SCORERS,
    clamped_terms,
    combine_terms,
    compute_terms,
    fit_methods,
    fit_scorer,
    needs_w,
    terms_of,
    usable_scorers,
)


class PoolingCounter(TorchFunctionMode):
    """Counts how often a map (N, C, h, w) is averaged over h and w."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.count += function is Tensor.mean and args[1:] == ((2, 3),)
        return function(*args, **(kwargs or {}))


OF_THE_PAPER = ["nap-msp", "nap-energy", "nap-ash", "nap-dice", "nap-scale", "nap-react", "nap-knn"]


def test_every_combination_of_the_paper_is_registered() -> None:
    assert set(OF_THE_PAPER) <= set(COMBINED)


def test_every_method_but_nap_stands_beside_nap_in_a_product() -> None:
    beside = {combination.other for name, combination in COMBINED.items() if name == f"nap-{combination.other}"}
    assert beside == {name for name in METHODS if not name.startswith("nap")}


def test_no_name_stands_for_two_scores() -> None:
    assert len(SCORERS) == len(set(SCORERS))


def test_terms_are_the_methods_that_a_name_is_made_of() -> None:
    assert terms_of("energy") == ("energy",)
    assert terms_of("nap-energy") == ("nap", "energy")
    assert terms_of("nap-veto-energy") == ("nap", "energy")
    assert terms_of("nap_variance-energy") == ("nap_variance", "energy")


def test_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(SetupError, match=r"no score 'enrgy'; choose from nap, .*energy"):
        terms_of("enrgy")
    with pytest.raises(SetupError, match="no score 'enrgy'"):
        needs_w("enrgy")


def test_w_belongs_to_combinations_alone() -> None:
    assert [name for name in SCORERS if needs_w(name)] == list(COMBINED)


@pytest.mark.parametrize("scorer", COMBINED)
def test_missing_w_is_refused(scorer: str) -> None:
    terms = compute_terms(terms_of(scorer), PARAMETERS, familiar(2, seed=1), STATE)
    with pytest.raises(SetupError, match=f"'{scorer}' combines two scores and needs w, a number from 0 to 1"):
        combine_terms(scorer, None, terms, STATE)


def test_settings_reach_their_method_by_name() -> None:
    forward = familiar(3, seed=2)
    parameters = {"nap.eps": 0.25, "energy.temperature": 4.0}
    terms = compute_terms(["nap", "nap_unsquared", "energy"], parameters, forward, {})
    assert terms["nap"].equal(nap(forward.activation, forward.features, 0.25))
    assert terms["energy"].equal(energy(forward.logits, 4.0))
    assert terms["nap_unsquared"].equal(score("nap_unsquared", forward))


def test_setting_that_no_method_has_is_refused() -> None:
    with pytest.raises(SetupError, match=r"no setting 'react\.percentil' of a score; choose from ash-b\.percentile"):
        compute_terms(["energy"], {"react.percentil": 90}, familiar(1, seed=0), {})
    with pytest.raises(SetupError, match="no setting 'percentile'"):
        fit_methods(["react"], statistics_of(), CLASSIFIER, {"percentile": 90})


def test_product_takes_positive_forms() -> None:
    forward = familiar(4, seed=3)
    terms = compute_terms(["knn", "nap"], PARAMETERS, forward, STATE)
    assert (terms["knn"] < 0).all()
    cosine = 1 - terms["knn"].square() / 2
    assert score("nap-knn", forward).equal(product(cosine, terms["nap"], W))


@pytest.mark.parametrize("scorer", [name for name, combination in COMBINED.items() if combination.clamps])
def test_nothing_is_clamped_on_familiar_images(scorer: str) -> None:
    terms = compute_terms(terms_of(scorer), PARAMETERS, familiar(20, seed=4), STATE)
    assert not clamped_terms(scorer, terms).any()


def test_clamps_are_counted_for_either_term() -> None:
    terms = {"energy": torch.tensor([-5.0, 1.0, 1.0, 0.0]), "nap": torch.tensor([1.0, 1.0, 0.0, 0.0])}
    assert clamped_terms("nap-energy", terms).tolist() == [True, False, True, True]
    assert clamped_terms("nap-veto-energy", terms).tolist() == [True, False, True, True]


def test_scores_that_take_no_logarithm_clamp_nothing() -> None:
    terms = {"energy": torch.tensor([-5.0, 1.0]), "nap": torch.tensor([0.0, 1.0])}
    assert clamped_terms("energy", terms).tolist() == [False, False]
    assert clamped_terms("nap-p-energy", terms).tolist() == [False, False]


def test_clamps_of_terms_that_belong_to_another_score_do_not_count() -> None:
    terms = {"energy": torch.tensor([-5.0]), "nap": torch.tensor([1.0]), "msp": torch.tensor([0.5])}
    assert not clamped_terms("nap-msp", terms).any()


def test_fit_gives_exactly_the_tensors_that_a_method_needs() -> None:
    for name, method in METHODS.items():
        fitted = fit_methods([name], statistics_of(), CLASSIFIER, PARAMETERS)
        assert set(fitted) == set(method.needs) - set(CLASSIFIER), name


def test_fit_of_a_scorer_gives_exactly_the_tensors_that_it_needs() -> None:
    terms = compute_terms(METHODS, PARAMETERS, familiar(9, seed=5), STATE)
    assert all(set(fit_scorer(name, terms)) == set(combination.needs) for name, combination in COMBINED.items())
    assert fit_scorer("energy", terms) == {}


def test_fit_without_the_last_layer_is_refused() -> None:
    with pytest.raises(SetupError, match=r"'dice' reads the last layer and the bundle lacks classifier\.weight"):
        fit_methods(["dice"], statistics_of(), {}, {})


def test_reference_is_kept_sorted() -> None:
    terms = {"energy": torch.tensor([3.0, 1.0, 2.0]), "nap": torch.tensor([5.0, 6.0, 4.0])}
    fitted = fit_scorer("nap-p-energy", terms)
    assert fitted["nap-p-energy.energy"].tolist() == [1, 2, 3]
    assert fitted["nap-p-energy.nap"].tolist() == [4, 5, 6]


def test_everything_is_usable_once_it_is_fitted() -> None:
    assert usable_scorers(W, STATE) == SCORERS


def test_only_what_needs_no_fit_is_usable_before() -> None:
    usable = usable_scorers(W, CLASSIFIER)
    assert {"nap", "energy", "ash", "scale", "nap-energy", "nap-ash"} <= set(usable)
    assert not {"react", "knn", "nap-react", "nap-knn", "nap-veto-energy", "nap-p-energy"} & set(usable)


def test_combinations_are_not_usable_without_w() -> None:
    assert set(usable_scorers(None, STATE)) == set(METHODS)


def test_strange_images_of_one_kind_are_caught_by_the_veto_alone() -> None:
    known = familiar(20, seed=6)
    flat = known.features[:, :, None, None].expand_as(known.activation).contiguous()
    blurred = Forward(known.logits, flat)  # the logits of a familiar image, without its peaks
    torch.testing.assert_close(score("energy", blurred), score("energy", known))
    assert score("nap-veto-energy", blurred).max() < score("nap-veto-energy", known).min()


def test_features_are_pooled_once_for_all_methods() -> None:
    forward = strange(2, seed=7)
    with PoolingCounter() as counter:
        compute_terms(METHODS, PARAMETERS, forward, STATE)
    assert counter.count == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ash.percentile", -10),
        ("react.percentile", 101),
        ("scale.percentile", float("nan")),
        ("gen.top", 0),
        ("nap.eps", 0),
        ("energy.temperature", 0),
        ("knn.k", 0),
        ("mahalanobis.ridge", -1),
    ],
)
def test_settings_with_which_a_score_would_say_nothing_are_refused(name: str, value: float) -> None:
    with pytest.raises(SetupError, match=rf"setting '{name}' is .*; it must lie between"):
        compute_terms((), {name: value}, familiar(1, seed=0), {})

"""The steps before a threshold: fit what has to be fitted, gather pseudo-OOD evidence, choose scorer and w."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from oodgate.bundle import Bundle, Scorer
from oodgate.errors import CalibrationError
from oodgate.images.opening import HostOpener
from oodgate.model import Model
from oodgate.offline.choice import BASELINE, Choice, choose, choose_w
from oodgate.offline.dataset import ImageFolder, read_batches
from oodgate.offline.features import BATCH, Extractor, Progress
from oodgate.offline.fit import collect_statistics, fit, fittable_methods, fitted_methods
from oodgate.offline.search import Evidence, count_evidence, gather_evidence
from oodgate.offline.splits import Splits
from oodgate.scores.registry import COMBINED, Parameters, fit_scorer, needs_w, terms_of
from oodgate.scores.statistics import BANK_SIZE
from oodgate.settings import Device, Precision

AUTO = "auto"
AUTO_CANDIDATES = ("energy", "nap-energy", "nap-veto-energy", "nap-p-energy")
"""What `auto` chooses from."""

Bars = Callable[[str, int], AbstractContextManager[Progress]]
"""Opens a progress bar with a title and a total."""


@dataclass(frozen=True)
class ScorerPlan:
    """Which scorer to prepare, and what it may cost."""

    scorer: str = "nap-energy"  # a name of the registry, or AUTO
    w: float | None = 0.4  # None: searched
    parameters: Parameters = field(default_factory=dict)
    bank_size: int = BANK_SIZE
    search_images: int = 1000
    seed: int = 0
    device: Device = "auto"
    precision: Precision = "float32"
    cache: Path | None = None

    @property
    def scorers(self) -> tuple[str, ...]:
        """The names that are considered."""
        return AUTO_CANDIDATES if self.scorer == AUTO else (self.scorer,)

    @property
    def as_given(self) -> Scorer:
        """The scorer where nothing is open."""
        return Scorer(name=self.scorer, w=self.w if needs_w(self.scorer) else None, parameters=dict(self.parameters))

    def methods_to_fit(self, bundle: Bundle) -> list[str]:
        """The methods that need training images; with AUTO all that the bundle can have, for `oodgate evaluate`."""
        return fittable_methods(bundle) if self.scorer == AUTO else fitted_methods(terms_of(self.scorer))

    @property
    def chooses(self) -> bool:
        """Whether a scorer or a w is open, and evidence has to decide."""
        return self.scorer == AUTO or (self.w is None and needs_w(self.scorer))

    @property
    def compares(self) -> bool:
        """Whether a scorer compares with reference images."""
        return any(name in COMBINED and COMBINED[name].fit is not None for name in self.scorers)


@dataclass(frozen=True)
class Prepared:
    """A bundle with everything fitted, its scorer, and how it was chosen."""

    bundle: Bundle
    scorer: Scorer
    choice: Choice | None
    evidence: Evidence | None


def prepare(bundle: Bundle, splits: Splits, plan: ScorerPlan, bars: Bars) -> Prepared:
    """Fit, search and choose, as far as the plan leaves it open; raises CalibrationError where images lack for it."""
    if plan.methods_to_fit(bundle):
        bundle = _fit(bundle, _required(splits.fit, "--fit"), plan, bars)
    if not (plan.chooses or plan.compares):
        return Prepared(bundle, plan.as_given, None, None)
    evidence = _gather(bundle, _required(splits.search, "--search"), plan, bars)
    bundle = _with_state(bundle, _references(plan, evidence))
    if not plan.chooses:
        return Prepared(bundle, plan.as_given, None, evidence)
    if plan.scorer == AUTO:
        choice = choose(evidence, plan.scorers, plan.w, bundle.state)
    else:
        choice = choose_w(evidence, plan.scorer, bundle.state)
    scorer = Scorer(name=choice.chosen.scorer, w=choice.chosen.w, parameters=dict(plan.parameters))
    return Prepared(bundle, scorer, choice, evidence)


def _fit(bundle: Bundle, images: ImageFolder, plan: ScorerPlan, bars: Bars) -> Bundle:
    model = Model(bundle, plan.device, plan.precision)
    with bars("fit", len(images)) as progress:
        statistics = collect_statistics(bundle, model, images, plan.bank_size, plan.seed, progress, plan.cache)
    return fit(bundle, plan.methods_to_fit(bundle), statistics, plan.parameters)


def _gather(bundle: Bundle, images: ImageFolder, plan: ScorerPlan, bars: Bars) -> Evidence:
    rows = np.random.default_rng(plan.seed).permutation(len(images))[: plan.search_images]
    chosen = images.take(np.sort(rows).tolist())
    pixels = torch.cat(list(read_batches(chosen.paths, HostOpener(bundle.manifest.preprocessing), BATCH))).numpy()
    scorers = {*plan.scorers, BASELINE, "nap"}
    extractor = Extractor(bundle, scorers, plan.parameters, plan.device, plan.precision, plan.cache)
    with bars("search", count_evidence(len(pixels)) if plan.chooses else len(pixels)) as progress:
        if plan.chooses:
            return gather_evidence(extractor, pixels, plan.seed, progress)
        return Evidence(extractor.of_pixels(pixels, progress), {})


def _references(plan: ScorerPlan, evidence: Evidence) -> dict[str, torch.Tensor]:
    return {key: tensor for name in plan.scorers for key, tensor in fit_scorer(name, evidence.known.terms).items()}


def _with_state(bundle: Bundle, tensors: Mapping[str, torch.Tensor]) -> Bundle:
    return Bundle(bundle.manifest, bundle.model, {**bundle.state, **tensors})


def _required(images: ImageFolder | None, option: str) -> ImageFolder:
    if images is None:
        raise CalibrationError(f"there are no images left for this step; give more images, or a folder with {option}")
    return images

"""The answers of a forward -> everything that is said of its images, in one table."""

import torch
from torch import Tensor

from oodgate.bundle import Calibration
from oodgate.engines import torchscript_is_wanted
from oodgate.scores.forward import Forward
from oodgate.scores.methods import METHODS
from oodgate.scores.registry import State, clamped_terms, combine_terms, compute_terms, terms_of

_WARM_UP = 3  # torch makes what it recorded faster when it runs it


class ScoreTable:
    """A calibrated scorer, and the probabilities and rankings beside its score."""

    def __init__(self, calibration: Calibration, state: State) -> None:
        """`state` is on the device of the forwards."""
        self.terms = terms_of(calibration.scorer.name)
        self._calibration, self._state = calibration, state
        self._compute = self._operators

    def of(self, forward: Forward) -> tuple[Tensor, Tensor]:
        """The table (N, 2 + terms + K) and the rankings (N, K) of a batch, on the device of the forward.

        Its columns are the score, whether a term was clamped, the terms, the probabilities. Rankings are the classes
        from the most probable to the least. Raises SetupError where the bundle lacks what the scorer needs.
        """
        with torch.inference_mode():
            table, rankings = self._compute(forward.logits, forward.activation)
            return table, rankings

    def record(self, example: Forward) -> None:
        """Run all operators in one call from now on, where they are the same for every batch, as for the example.

        On a CPU each operator that Python calls takes tens of microseconds after a forward, which leaves nothing of
        the interpreter in the caches.
        """
        if any(METHODS[name].in_chunks for name in self.terms):
            return
        with torch.inference_mode(), torchscript_is_wanted():
            answers = (example.logits, example.activation)
            self._compute = torch.jit.trace(self._operators, answers, check_trace=False)
            for _ in range(_WARM_UP):
                self._compute(*answers)

    def _operators(self, logits: Tensor, activation: Tensor) -> tuple[Tensor, Tensor]:
        scorer = self._calibration.scorer
        terms = compute_terms(self.terms, scorer.parameters, Forward(logits, activation), self._state)
        score, clamped = combine_terms(scorer.name, scorer.w, terms, self._state), clamped_terms(scorer.name, terms)
        probabilities = self._probabilities(logits)
        columns = torch.stack([score, clamped.float(), *terms.values()], 1)
        return torch.cat([columns, probabilities], 1), ranked(probabilities)

    def _probabilities(self, logits: Tensor) -> Tensor:
        return (logits / self._calibration.temperature).softmax(1)


def ranked(probabilities: Tensor) -> Tensor:
    """Classes (N, K) of each image, int32, from the most probable to the least."""
    return probabilities.argsort(dim=1, descending=True, stable=True).int()

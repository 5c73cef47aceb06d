"""How pictures for the default model are preprocessed, which may change when a model is loaded."""

from collections.abc import Callable

from oodgate.api.repository import Repository
from oodgate.errors import RequestError
from oodgate.fronts.messages import Transform
from oodgate.fronts.slots import Shape, shape_for
from oodgate.images.preprocess import Preprocessing


class Transforms:
    """The transform of now; each has a number, so that pixels that an older one made are told from those of this."""

    def __init__(self, repository: Repository, on_change: Callable[[Transform], None]) -> None:
        """`on_change` hears of every further one."""
        self._repository = repository
        self._on_change = on_change
        found = self._found()
        self.shape: Shape = shape_for(repository.settings, found.crop if found else (1, 1))
        self.current = Transform(number=0, preprocessing=found)

    def renew(self) -> None:
        """Look whether it has changed; pictures that do not fit into the slots are none that a front opens."""
        found = self._found()
        if found is self.current.preprocessing:  # to compare them would cost every picture something
            return
        if found and found.crop[0] * found.crop[1] * 3 > self.shape.size:
            found = None
        if found != self.current.preprocessing:
            self.current = Transform(number=self.current.number + 1, preprocessing=found)
            self._on_change(self.current)

    def _found(self) -> Preprocessing | None:
        try:
            return self._repository.predictor(self._repository.default).gate.manifest.preprocessing
        except RequestError:  # who asks now is passed on, and gets the answer that says why
            return None

"""How pictures for the default model are preprocessed, which may change when a model is loaded."""

from oodgate.api.repository import Repository
from oodgate.errors import RequestError
from oodgate.fronts.messages import Transform
from oodgate.fronts.slots import Shape
from oodgate.images.preprocess import Preprocessing


class Transforms:
    """The transform of now; each has a number, so that pixels made by an older one are told from those."""

    def __init__(self, repository: Repository, shape: Shape) -> None:
        """Pixels have to fit into slots of this shape; a front does not open what would not."""
        self._repository = repository
        self._shape = shape
        self.current = Transform(number=0, preprocessing=self._found())

    def renew(self) -> bool:
        """Look again; returns whether it has changed."""
        found = self._found()
        if found == self.current.preprocessing:
            return False
        self.current = Transform(number=self.current.number + 1, preprocessing=found)
        return True

    def _found(self) -> Preprocessing | None:
        try:
            preprocessing = self._repository.predictor(self._repository.default).gate.manifest.preprocessing
        except RequestError:  # who asks now gets the answer that says why
            return None
        height, width = preprocessing.crop
        return preprocessing if 3 * height * width <= self._shape.size else None

"""The kinds of endpoints, by which is decided who may ask, by which name and at which port."""

from typing import Literal, Protocol

Kind = Literal["probe", "page", "predict", "metrics", "admin"]


class Kinds(Protocol):
    """What knows the kind of the endpoint at a path."""

    def kind(self, path: str) -> Kind | None:
        """The kind; None where there is no endpoint."""

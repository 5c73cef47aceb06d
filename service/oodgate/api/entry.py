"""The models that the service knows: where each is loaded from, what answers for it, and if nothing does, why."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from oodgate.api.loading import bundles_below
from oodgate.api.predictor import Predictor
from oodgate.errors import (
    LoadInProgress,
    ModelNotFound,
    ModelUnavailable,
    ModelUnloaded,
    RequestError,
    SetupError,
)
from oodgate.settings import Settings

State = Literal["ready", "loading", "unavailable", "unloaded"]


@dataclass
class Entry:
    """A name with its folder; `absence` and `trouble` tell of the time without a predictor."""

    name: str
    folder: Path
    version: str | None = None
    predictor: Predictor | None = None
    absence: Literal["loading", "unavailable", "unloaded"] = "unloaded"
    trouble: str | None = None
    changing: bool = False

    @property
    def state(self) -> State:
        """Whether the model answers, and if not, in which way it does not."""
        if self.predictor:
            return "ready" if self.predictor.alive else "unavailable"
        return self.absence

    @property
    def reason(self) -> str | None:
        """Why the model is unavailable, where it is."""
        if self.predictor:
            return None if self.predictor.alive else "the worker ended; load the model again or restart the service"
        return self.trouble

    def refusal(self) -> RequestError:
        """What a request is told while there is no predictor."""
        if self.absence == "unloaded":
            return ModelUnloaded(f"model '{self.name}' is not loaded; load it, or ask another instance")
        if self.absence == "loading":
            return ModelUnavailable(f"model '{self.name}' is being loaded; try again later")
        return ModelUnavailable(f"model '{self.name}' cannot be served: {self.trouble}")


class Entries:
    """The entries by name; iterates over them in the order of names."""

    def __init__(self) -> None:
        self._by_name: dict[str, Entry] = {}

    def __iter__(self) -> Iterator[Entry]:
        return iter([self._by_name[name] for name in sorted(self._by_name)])

    def add(self, entry: Entry) -> Entry:
        """Take up a model; one whose name another has is unavailable, by its folder's name if that is free."""
        if other := self._by_name.get(entry.name):
            trouble = (
                f"{entry.folder} holds model '{entry.name}' as {other.folder} does; a bundle is served by the "
                "name that it has from `oodgate export --name`; give it another, or remove one"
            )
            entry = Entry(entry.folder.resolve().name, entry.folder, entry.version, None, "unavailable", trouble)
        return self._by_name.setdefault(entry.name, entry)

    def knows(self, name: str) -> bool:
        """Whether there is a model of this name."""
        return name in self._by_name

    def find(self, name: str) -> Entry:
        """The model of this name; raises ModelNotFound."""
        if name not in self._by_name:
            raise ModelNotFound(f"there is no model '{name}'; GET /v1/models lists those that there are")
        return self._by_name[name]

    def look_for(self, name: str, models: Path | None) -> None:
        """Take up a folder of this name below `models` that has come since the start."""
        if models is None or name in self._by_name:
            return
        for folder in bundles_below(models):
            if folder.name == name:
                self.add(Entry(name, folder))

    @contextmanager
    def changing(self, name: str) -> Iterator[Entry]:
        """The model while it is loaded or unloaded; raises ModelNotFound, or LoadInProgress where it is already."""
        entry = self.find(name)
        if entry.changing:
            raise LoadInProgress(f"model '{name}' is being loaded or unloaded already; try again when that has ended")
        entry.changing = True
        try:
            yield entry
        finally:
            entry.changing = False

    def default(self, settings: Settings) -> str:
        """The model that answers where none is named; raises SetupError where it is not known or its bundle not fit.

        It is OODGATE_DEFAULT_MODEL, else the one of OODGATE_BUNDLE, which was added first, else the only one.
        """
        first, known = next(iter(self._by_name.values())), ", ".join(sorted(self._by_name))
        if settings.serves_bundle and first.trouble:
            raise SetupError(first.trouble)
        wanted = settings.default_model or (first.name if settings.serves_bundle else "")
        if wanted and wanted not in self._by_name:
            raise SetupError(f"there is no model '{wanted}' to be the default; there are {known}")
        usable = [entry.name for entry in self._by_name.values() if entry.predictor] or list(self._by_name)
        if not wanted and len(usable) > 1:
            raise SetupError(f"there are {known}; say which is the default with OODGATE_DEFAULT_MODEL")
        return wanted or usable[0]

"""One model that the service knows: where it is loaded from, what answers for it, and if nothing does, why."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from oodgate.api.predictor import Predictor
from oodgate.errors import ModelUnavailable, ModelUnloaded, RequestError, SetupError
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


def default_name(entries: Mapping[str, Entry], settings: Settings) -> str:
    """The model that answers where none is named; raises SetupError where it is not known or its bundle is not fit.

    It is OODGATE_DEFAULT_MODEL, else the one of OODGATE_BUNDLE, which is the first entry, else the only one.
    """
    first, known = next(iter(entries.values())), ", ".join(sorted(entries))
    if settings.serves_bundle and first.trouble:
        raise SetupError(first.trouble)
    wanted = settings.default_model or (first.name if settings.serves_bundle else "")
    if wanted and wanted not in entries:
        raise SetupError(f"there is no model '{wanted}' to be the default; there are {known}")
    usable = [name for name, entry in entries.items() if entry.predictor] or list(entries)
    if not wanted and len(usable) > 1:
        raise SetupError(f"there are {known}; say which is the default with OODGATE_DEFAULT_MODEL")
    return wanted or usable[0]

"""The models of the service by name: who answers a request, and how one version takes the place of another.

All of it runs on the event loop but the reading of bundles and the ending of workers. A request takes hold of its
model once, so that one version answers the whole of it; a version that was replaced ends when its last request has
its answer.
"""

import asyncio
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated

import structlog
import torch
from fastapi import Depends, Request

from oodgate.api.entry import Entries, Entry
from oodgate.api.facilities import Facilities
from oodgate.api.loading import Loader, model_folders, open_model
from oodgate.api.model_drift import ModelDrift, identity_of
from oodgate.api.predictor import Predictor
from oodgate.errors import Draining, LoadFailed, ModelNotFound, NotReady, ReloadDisabled
from oodgate.gate import Gate
from oodgate.model import choose_device
from oodgate.observability.metrics import Metrics
from oodgate.settings import Settings

log = structlog.stdlib.get_logger("oodgate")


class Repository:
    """Every model that the service knows."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        """Load all models.

        Raises SetupError where OODGATE_BUNDLE is not fit to serve, the default is not known, or the quarantine cannot
        be opened.
        """
        self.settings = settings
        self.metrics = metrics
        self.facilities = Facilities(settings, metrics)
        self.draining = False
        self.complete = True  # False while a process that belongs to the service is missing
        self.hangs = False  # and whoever watches the process has to start it again
        self._loader = Loader(settings)
        self._replaced: list[Predictor] = []
        self._entries = Entries()
        choose_device(settings.device)  # where there is none of the kind, no model can say more
        for folder in model_folders(settings):
            self._add(folder)
        self.default = self._entries.default(settings)
        for entry in self._entries:
            if entry.trouble:
                log.error("a model cannot be served", model=entry.name, reason=entry.trouble)

    @property
    def entries(self) -> list[Entry]:
        """Every model in the order of names."""
        return list(self._entries)

    def predictor(self, name: str, version: str | None = None) -> Predictor:
        """What answers for a model; raises ModelNotFound, or the 503 that says why nothing does."""
        entry = self._entries.find(name)
        if entry.predictor is None:
            raise entry.refusal()
        if version not in (None, entry.version):
            raise ModelNotFound(f"model '{name}' is served in version '{entry.version}' and no other")
        if not entry.predictor.alive:
            raise NotReady("the worker is not running; send the request to another instance")
        return entry.predictor

    def ready(self, name: str, version: str | None = None) -> Predictor:
        """What answers for a model; raises what a request for it would be refused with: Draining, or as `predictor`."""
        if self.draining:
            raise Draining("the service is stopping; send the request to another instance")
        return self.predictor(name, version)

    def check_readiness(self) -> None:
        """Raise what readiness says no with: as `ready` does for the default model, or NotReady."""
        self.ready(self.default)
        if not self.complete:
            raise NotReady("a part of the service is starting; send the request to another instance")

    def check_forwards(self) -> None:
        """Notice a forward that hangs: whoever waits for it is answered, and `hangs` is set for good."""
        for predictor in self._predictors():
            self.hangs |= not predictor.check_forward()

    def lease(self, name: str, version: str | None = None) -> AbstractContextManager[Predictor]:
        """The model for one request, which keeps it until it is done; raises as `ready` does."""
        return self.ready(name, version).in_use()

    async def load(self, name: str) -> Entry:
        """Serve what lies in the model's folder now; returns when what it replaces has ended.

        Raises ReloadDisabled, Draining, ModelNotFound, LoadInProgress, or LoadFailed, which changes nothing.
        """
        self._check_reload()
        self._entries.look_for(name, self.settings.models)
        with self._entries.changing(name) as entry:
            if entry.predictor is None:
                entry.absence, entry.trouble = "loading", None
            gate = await self._open(entry)
            entry.version = gate.manifest.version
            await self._replace(entry, self._start(gate, entry.predictor))
        return entry

    async def unload(self, name: str) -> Entry:
        """Stop serving a model; returns when its last request has its answer. Raises as `load` does."""
        self._check_reload()
        with self._entries.changing(name) as entry:
            entry.absence, entry.trouble = "unloaded", None
            await self._replace(entry, None)
        return entry

    async def reset_drift(self, name: str) -> Predictor:
        """Forget a model's evidence of drift and end its alarms. Raises ReloadDisabled, or as `ready` does."""
        self._check_reload()
        predictor = self.predictor(name)
        await asyncio.to_thread(predictor.drift.reset)
        log.warning("drift alarm reset", model=name, version=predictor.gate.manifest.version)
        return predictor

    async def close(self) -> None:
        """End the threads. Every request has its answer by now; a forward that outlasted the drain is abandoned."""
        await asyncio.gather(*(predictor.end() for predictor in self._predictors()))
        for predictor in self._predictors():
            await asyncio.to_thread(predictor.drift.close)
        self._loader.close()
        await self.facilities.close()

    @property
    def ended(self) -> bool:
        """Whether every worker has ended."""
        return all(predictor.ended for predictor in self._predictors())

    def _predictors(self) -> list[Predictor]:
        return [*self._replaced, *(entry.predictor for entry in self._entries if entry.predictor)]

    def _add(self, folder: Path) -> None:
        opened = open_model(folder, self.settings)
        known = self._entries.knows(opened.name)
        found = Entry(opened.name, folder, opened.version, absence="unavailable", trouble=opened.reason)
        entry = self._entries.add(found)
        if known and entry.folder != folder:
            log.error("a bundle is not served, as its name and its folder's are taken", folder=str(folder))
        if opened.gate and not known:
            entry.predictor = self._start(opened.gate, None)
            log.info("loaded", model=entry.name, version=entry.version, device=str(opened.gate.model.device))

    def _start(self, gate: Gate, old: Predictor | None) -> Predictor:
        """A gate at work; it goes on with the drift alarm of the one that it replaces where both are the same."""
        if old and old.drift.identity == identity_of(gate):
            return Predictor(self.facilities, gate, old.drift)
        return Predictor(self.facilities, gate, ModelDrift(gate, self.settings))

    def _check_reload(self) -> None:
        if not self.settings.allow_reload:
            raise ReloadDisabled(
                "models are not loaded, unloaded or reset here; the operator allows it by OODGATE_ALLOW_RELOAD"
            )
        if self.draining:
            raise Draining("the service is stopping; send the request to another instance")

    async def _open(self, entry: Entry) -> Gate:
        """The gate of what lies in the folder; LoadFailed leaves its reason where nothing else answers."""
        opened = await self._loader.open(entry.folder, entry.name)
        if opened.gate:
            return opened.gate
        if entry.predictor is None:
            entry.absence, entry.trouble, entry.version = "unavailable", opened.reason, opened.version
        raise LoadFailed(str(opened.reason))

    async def _replace(self, entry: Entry, successor: Predictor | None) -> None:
        """Requests find the successor from now on; what they found before ends with the last that found it."""
        old, entry.predictor = entry.predictor, successor
        log.info("loaded" if successor else "unloaded", model=entry.name, version=entry.version)
        if old:
            self._replaced.append(old)
            await old.unused()
            await old.end()
            if not (successor and successor.drift is old.drift):
                await asyncio.to_thread(old.drift.close)
            del old
            self._replaced = [predictor for predictor in self._replaced if not predictor.ended]
            torch.cuda.empty_cache()  # torch would keep the freed network's memory from other processes


async def repository_of(request: Request) -> Repository:
    """The repository of the application that answers."""
    repository: Repository = request.app.state.repository
    return repository


Models = Annotated[Repository, Depends(repository_of)]
"""A parameter of an endpoint: the models of the service."""

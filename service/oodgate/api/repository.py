"""The models of the service by name: who answers a request, and how one version takes the place of another.

All of it runs on the event loop but the reading of bundles and the ending of workers. A request takes hold of its
model once, so that one version answers the whole of it; a version that was replaced ends when its last request has
its answer.
"""

import asyncio
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import structlog
import torch
from fastapi import Depends, Request

from oodgate.api.entry import Entry, default_name
from oodgate.api.loading import bundles_below, model_folders, open_model
from oodgate.api.predictor import Predictor
from oodgate.errors import (
    Draining,
    LoadFailed,
    LoadInProgress,
    ModelNotFound,
    NotReady,
    ReloadDisabled,
    SetupError,
)
from oodgate.gate import Gate
from oodgate.model import choose_device
from oodgate.observability.metrics import Metrics
from oodgate.settings import Settings

log = structlog.stdlib.get_logger("oodgate")


class Repository:
    """Every model that the service knows."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        """Load all models; raises SetupError where OODGATE_BUNDLE is not fit to serve or the default is not known."""
        self.settings = settings
        self.metrics = metrics
        self.draining = False
        self.decoders: Executor = ThreadPoolExecutor(settings.decode_threads, thread_name_prefix="oodgate-decode")
        # One load at a time: each needs memory for one more network, and torch's warnings are those of the process.
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="oodgate-load")
        self._replaced: list[Predictor] = []
        self._entries: dict[str, Entry] = {}
        choose_device(settings.device)  # where there is none of the kind, no model can say more
        for folder in model_folders(settings):
            self._add(folder)
        self.default = default_name(self._entries, settings)

    @property
    def entries(self) -> list[Entry]:
        """Every model in the order of names."""
        return [self._entries[name] for name in sorted(self._entries)]

    def predictor(self, name: str, version: str | None = None) -> Predictor:
        """What answers for a model; raises ModelNotFound, or the 503 that says why nothing does."""
        entry = self._find(name)
        if entry.predictor is None:
            raise entry.refusal()
        if version not in (None, entry.version):
            raise ModelNotFound(f"model '{name}' is served in version '{entry.version}' and no other")
        if not entry.predictor.alive:
            raise NotReady("the worker is not running; send the request to another instance")
        return entry.predictor

    def check_ready(self, name: str, version: str | None = None) -> None:
        """Raise what a request for the model would be refused with: Draining, or as `predictor` does."""
        if self.draining:
            raise Draining("the service is stopping; send the request to another instance")
        self.predictor(name, version)

    @contextmanager
    def lease(self, name: str, version: str | None = None) -> Iterator[Predictor]:
        """The model for one request, which keeps it until it is done; raises as `check_ready` does."""
        self.check_ready(name, version)
        predictor = self.predictor(name, version)
        with predictor.in_use():
            yield predictor

    async def load(self, name: str) -> Entry:
        """Serve what lies in the model's folder now; returns when what it replaces has ended.

        Raises ReloadDisabled, Draining, ModelNotFound, LoadInProgress, or LoadFailed, which changes nothing.
        """
        self._check_reload()
        if name not in self._entries:
            self._look_for(name)
        with self._changing(name) as entry:
            if entry.predictor is None:
                entry.absence, entry.trouble = "loading", None
            gate = await self._open(entry)
            entry.version = gate.manifest.version
            await self._replace(entry, Predictor(self.settings, gate, self.decoders, self.metrics))
        return entry

    async def unload(self, name: str) -> Entry:
        """Stop serving a model; returns when its last request has its answer. Raises as `load` does."""
        self._check_reload()
        with self._changing(name) as entry:
            entry.absence, entry.trouble = "unloaded", None
            await self._replace(entry, None)
        return entry

    async def close(self) -> None:
        """End the threads. Every request has its answer by now; a forward that outlasted the drain is abandoned."""
        await asyncio.gather(*(predictor.end() for predictor in self._predictors()))
        self._loader.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self.decoders.shutdown, cancel_futures=True)

    @property
    def ended(self) -> bool:
        """Whether every worker has ended."""
        return all(predictor.ended for predictor in self._predictors())

    def _predictors(self) -> list[Predictor]:
        return [*self._replaced, *(entry.predictor for entry in self._entries.values() if entry.predictor)]

    def _find(self, name: str) -> Entry:
        if name not in self._entries:
            raise ModelNotFound(f"there is no model '{name}'; GET /v1/models lists those that there are")
        return self._entries[name]

    def _add(self, folder: Path) -> None:
        opened = open_model(folder, self.settings)
        if opened.name in self._entries:
            other = self._entries[opened.name].folder
            raise SetupError(f"{other} and {folder} both hold a model named '{opened.name}'; rename or remove one")
        entry = Entry(opened.name, folder, opened.version, absence="unavailable", trouble=opened.reason)
        if opened.gate:
            entry.predictor = Predictor(self.settings, opened.gate, self.decoders, self.metrics)
            log.info("loaded", model=entry.name, version=entry.version, device=str(opened.gate.model.device))
        else:
            log.error("a model cannot be served", model=entry.name, reason=entry.trouble)
        self._entries[entry.name] = entry

    def _check_reload(self) -> None:
        if not self.settings.allow_reload:
            raise ReloadDisabled(
                "models are not loaded and unloaded here; the operator allows it by OODGATE_ALLOW_RELOAD"
            )
        if self.draining:
            raise Draining("the service is stopping; send the request to another instance")

    def _look_for(self, name: str) -> None:
        """Take up a folder of this name that has come since the start."""
        below = bundles_below(self.settings.models) if self.settings.models else []
        for folder in below:
            if folder.name == name:
                self._entries[name] = Entry(name, folder)

    @contextmanager
    def _changing(self, name: str) -> Iterator[Entry]:
        entry = self._find(name)
        if entry.changing:
            raise LoadInProgress(f"model '{name}' is being loaded or unloaded already; try again when that has ended")
        entry.changing = True
        try:
            yield entry
        finally:
            entry.changing = False

    async def _open(self, entry: Entry) -> Gate:
        """The gate of what lies in the folder; LoadFailed leaves its reason where nothing else answers."""
        loop = asyncio.get_running_loop()
        opened = await loop.run_in_executor(self._loader, open_model, entry.folder, self.settings)
        reason = opened.reason
        if opened.gate and opened.name != entry.name:
            reason = (
                f"{entry.folder} holds model '{opened.name}' now, expected '{entry.name}'; give it a folder of its own"
            )
        if opened.gate and not reason:
            return opened.gate
        if entry.predictor is None:
            entry.absence, entry.trouble, entry.version = "unavailable", reason, opened.version
        raise LoadFailed(str(reason))

    async def _replace(self, entry: Entry, successor: Predictor | None) -> None:
        """Requests find the successor from now on; what they found before ends with the last that found it."""
        old, entry.predictor = entry.predictor, successor
        log.info("loaded" if successor else "unloaded", model=entry.name, version=entry.version)
        if old:
            self._replaced.append(old)
            await old.unused()
            await old.end()
            del old
            self._replaced = [predictor for predictor in self._replaced if not predictor.ended]
            torch.cuda.empty_cache()  # torch would keep the freed network's memory from other processes


async def repository_of(request: Request) -> Repository:
    """The repository of the application that answers."""
    repository: Repository = request.app.state.repository
    return repository


Models = Annotated[Repository, Depends(repository_of)]
"""A parameter of an endpoint: the models of the service."""

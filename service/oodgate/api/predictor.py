"""One version of one model at work: a picture waits for its batch, is judged and counted."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from time import monotonic, perf_counter
from typing import Self

import structlog

from oodgate.answers import Answer, Promise, keep_on_loop
from oodgate.api.facilities import Facilities
from oodgate.api.judging import Judge, Judgement, Picture
from oodgate.api.model_drift import ModelDrift
from oodgate.api.origin import NOWHERE, Origin
from oodgate.batching import Batcher, BatchLimits
from oodgate.errors import DeadlinePassed
from oodgate.gate import Gate, Verdict
from oodgate.observability.metrics import ModelMetrics
from oodgate.pixels import opener_of

_ABANDON_AFTER_S = 1.0
_ASK_AGAIN_AFTER_S = 0.005

log = structlog.stdlib.get_logger("oodgate")


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict, and where its time went in milliseconds: queue, decode, forward, total."""

    verdict: Verdict
    timing_ms: dict[str, float]


class Predictor:
    """A gate behind its queue and worker, its drift alarm and its metrics."""

    def __init__(self, facilities: Facilities, gate: Gate, drift: ModelDrift) -> None:
        """Start the worker and expose the model's metrics."""
        self.gate = gate
        self.drift = drift
        self._facilities = facilities
        self._settings = facilities.settings
        self._own_metrics = describing_metrics(gate)
        self._batcher = create_batcher(facilities, gate, self._own_metrics)
        self._users = 0  # requests
        self._unused = asyncio.Event()
        self._start()

    def check_room(self, origin: Origin) -> None:
        """Raise what an image would be refused with now, before its bytes are read."""
        self._batcher.check(self._deadline(origin), origin.lane)

    async def judge(self, picture: Picture, origin: Origin = NOWHERE) -> Judged:
        """Answer one image; raises the RequestError that says why there is no answer."""
        start, loop = perf_counter(), asyncio.get_running_loop()
        waiting: asyncio.Future[Answer[Judgement]] = loop.create_future()
        self.submit(picture, waiting, origin)
        expiry = loop.call_later(self.patience_ms(origin) / 1000, waiting.cancel)
        try:
            return self.conclude(await waiting, origin, start)
        except asyncio.CancelledError:
            self.withdraw(waiting)
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise  # it is the request that is given up
            raise self.too_late(origin) from None
        finally:
            expiry.cancel()

    def submit(self, picture: Picture, promise: Promise[Answer[Judgement]], origin: Origin) -> None:
        """Queue an image whose answer is awaited elsewhere; raises as `check_room`."""
        self._batcher.submit(picture, promise, self._deadline(origin), origin.lane)

    def withdraw(self, promise: Promise[Answer[Judgement]]) -> None:
        """Nobody waits for this answer any more."""
        self._batcher.withdraw(promise)

    def conclude(self, answer: Answer[Judgement], origin: Origin, start: float) -> Judged:
        """Count an image that was judged, and say where its time went since `start` (of `perf_counter`)."""
        self._take_note(answer, origin)
        verdict, decode_ms = answer.result.verdict, answer.result.decode_ms
        timing = {"queue": answer.queue_ms, "decode": decode_ms, "forward": verdict.forward_ms}
        return Judged(verdict, timing | {"total": 1000 * (perf_counter() - start)})

    def patience_ms(self, origin: Origin) -> float:
        """How long an image may wait for its answer."""
        return min(origin.patience_ms, self._settings.deadline_ms)

    def too_late(self, origin: Origin) -> DeadlinePassed:
        """What is said where that time is over."""
        return DeadlinePassed(f"there was no answer within {self.patience_ms(origin):g} ms")

    @property
    def alive(self) -> bool:
        """Whether the worker runs."""
        return self._batcher.alive

    def check_forward(self) -> bool:
        """Whether no forward hangs; answers everybody who waits for one that does."""
        if self._batcher.longest_s <= self._settings.hang_timeout_ms / 1000:
            return True
        if self.alive:
            log.critical("a forward hangs", model=self.gate.manifest.name, seconds=round(self._batcher.longest_s, 1))
            self._batcher.give_up()
        return False

    @contextmanager
    def in_use(self) -> Iterator[Self]:
        """Keep the model until the end of a request."""
        self.hold()
        try:
            yield self
        finally:
            self.let_go()

    def hold(self) -> None:
        """A request needs the model."""
        self._users += 1

    def let_go(self) -> None:
        """A request has no need of the model any more."""
        self._users -= 1
        if not self._users:
            self._unused.set()

    async def unused(self) -> None:
        """Wait until no request uses the model; nothing may hand it to a new one any more."""
        while self._users:
            self._unused.clear()
            await self._unused.wait()

    async def end(self) -> None:
        """End the worker and the model's series; a forward that outlasted its requests is abandoned."""
        self._batcher.drain()
        with suppress(TimeoutError):
            async with asyncio.timeout(_ABANDON_AFTER_S):
                while not self.ended:
                    await asyncio.sleep(_ASK_AGAIN_AFTER_S)
        self._facilities.metrics.models.hide(self._own_metrics)

    @property
    def ended(self) -> bool:
        """Whether the worker has ended."""
        return self._batcher.join(0)

    def _start(self) -> None:
        batcher = self._batcher  # not self, which would tie the metrics into a cycle with it
        self._own_metrics.watch(worker_up=lambda: batcher.alive, queue_depth=lambda: batcher.depth)
        self._own_metrics.watch_drift(self.drift.alarm, self.gate.manifest.classes)
        self._own_metrics.queue_limit.set(self._settings.max_queue)
        self._batcher.start()
        self._facilities.metrics.models.show(self._own_metrics)

    def _deadline(self, origin: Origin) -> float:
        return monotonic() + self.patience_ms(origin) / 1000

    def _take_note(self, answer: Answer[Judgement], origin: Origin) -> None:
        """Let metrics, drift alarm and quarantine know of an image that was judged."""
        verdict, manifest = answer.result.verdict, self.gate.manifest
        name = manifest.classes[verdict.predicted]
        self._own_metrics.count(name, decision(verdict), verdict.score, verdict.p_value, verdict.clamped)
        stages = {"queue": answer.queue_ms, "decode": answer.result.decode_ms}
        stages |= {"forward": verdict.forward_ms, "score": verdict.score_ms}
        for stage, duration_ms in stages.items():
            self._facilities.metrics.stages[stage].observe(duration_ms / 1000)
        self.drift.alarm.update(not verdict.accepted, verdict.predicted, origin.client)
        if self._facilities.keeping:
            self._facilities.keeping.offer(origin, verdict, manifest)


def create_batcher(facilities: Facilities, gate: Gate, metrics: ModelMetrics) -> Batcher[Picture, Judgement]:
    """The queue and workers in front of the gate."""
    tuning, settings = gate.tuning, facilities.settings
    helpers = facilities.openers_of(tuning.workers)
    opener = opener_of(gate.manifest.preprocessing, settings.decoding, gate.model.device, helpers)
    return Batcher(
        Judge(gate, opener, on_forward=metrics.batch_size.observe).judge,
        BatchLimits(tuning.max_batch, settings.max_wait_ms / 1000, settings.max_queue, tuning.workers),
        keep_on_loop,
        on_start=partial(gate.model.enter_worker, tuning.hows, tuning.portion),
        on_share=lambda images, alone: gate.model.adapt(tuning.how(images, alone)),
        on_failure=lambda error: log.error("a batch failed", exc_info=error),
        on_death=lambda error: log.critical("the worker ended", exc_info=error),
        soon=lambda step: asyncio.get_running_loop().call_soon(step),
    )


def describing_metrics(gate: Gate) -> ModelMetrics:
    """The metrics of the gate's model, with what can be said about it before the first image."""
    manifest, calibration, model = gate.manifest, gate.calibration, gate.model
    metrics = ModelMetrics(manifest.name, manifest.version, gate.calibration_scores)
    metrics.threshold.set(calibration.threshold)
    metrics.alpha.set(calibration.guarantee.alpha)
    metrics.describe({"scorer": calibration.scorer.name, "device": model.device.type, "precision": model.precision})
    return metrics


def decision(verdict: Verdict) -> str:
    """The word for it."""
    return "accept" if verdict.accepted else "reject"

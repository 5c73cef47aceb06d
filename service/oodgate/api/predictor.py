"""Bytes of one image -> its answer: decode in a thread, wait for the batcher, record, render."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from time import monotonic, perf_counter

import numpy as np

from oodgate.batching import Answer, Batcher
from oodgate.errors import DeadlinePassed, Draining, NotReady, QueueFull
from oodgate.gate import Gate, Pixels, Verdict
from oodgate.images.decode import decode
from oodgate.images.preprocess import preprocess
from oodgate.observability.drift import DriftAlarm
from oodgate.observability.metrics import Metrics
from oodgate.settings import Settings

Document = dict[str, object]

_ABANDON_AFTER_S = 1.0


class Predictor:
    """The path of one image through the service."""

    def __init__(self, settings: Settings, gate: Gate, batcher: Batcher[Pixels, Verdict], metrics: Metrics) -> None:
        self.settings = settings
        self.gate = gate
        self.batcher = batcher
        self.metrics = metrics
        self.draining = False
        self._decoders = ThreadPoolExecutor(settings.decode_threads, thread_name_prefix="oodgate-decode")
        self._drift = DriftAlarm(gate.calibration.guarantee.alpha, settings.drift_false_alarms)
        self._waiting = 0
        self._model: Document = {"name": gate.manifest.name, "version": gate.manifest.version}

    async def predict(self, data: bytes, top_k: int, prediction_id: str) -> Document:
        """Answer one image; raises the RequestError that says why there is no answer."""
        start = perf_counter()
        deadline = monotonic() + self.settings.deadline_ms / 1000
        with self._place():
            try:
                async with asyncio.timeout(self.settings.deadline_ms / 1000):
                    pixels, decode_ms = await self._decode(data)
                    answer = await asyncio.wrap_future(self.batcher.submit(pixels, deadline))
            except TimeoutError as error:
                raise DeadlinePassed(f"there was no answer within {self.settings.deadline_ms:g} ms") from error
        self._record(answer, decode_ms)
        document = self._render(answer.result, top_k, prediction_id)
        timing = {"decode": decode_ms, "queue": answer.queue_ms, "forward": answer.result.forward_ms}
        timing["total"] = 1000 * (perf_counter() - start)
        return document | {"timing_ms": {stage: round(ms, 3) for stage, ms in timing.items()}}

    def check_ready(self) -> None:
        """Raise Draining where the service is stopping, NotReady where its worker is not alive."""
        if self.draining:
            raise Draining("the service is stopping; send the request to another instance")
        if not self.batcher.alive:
            raise NotReady("the worker is not running; send the request to another instance")

    def close(self) -> None:
        """End the threads. Every request has its answer by now; a forward that outlasted the drain is abandoned."""
        self.batcher.drain()
        self.batcher.join(_ABANDON_AFTER_S)
        self._decoders.shutdown(cancel_futures=True)

    @contextmanager
    def _place(self) -> Iterator[None]:
        """Hold one of the places for images that are being decoded or wait, so that neither crowd can grow."""
        self.check_ready()
        places = self.settings.max_queue + self.settings.max_batch
        if self._waiting >= places:
            raise QueueFull(f"{places} images are waiting already; try again later")
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    async def _decode(self, data: bytes) -> tuple[Pixels, float]:
        return await asyncio.get_running_loop().run_in_executor(self._decoders, self._decode_now, data)

    def _decode_now(self, data: bytes) -> tuple[Pixels, float]:
        start = perf_counter()
        picture = decode(data, self.settings.max_pixels, self.settings.formats)
        return preprocess(picture, self.gate.manifest.preprocessing), 1000 * (perf_counter() - start)

    def _record(self, answer: Answer[Verdict], decode_ms: float) -> None:
        verdict, metrics, manifest = answer.result, self.metrics, self.gate.manifest
        predicted = manifest.classes[int(verdict.probabilities.argmax())]
        metrics.predictions.labels(manifest.name, manifest.version, decision(verdict)).inc()
        metrics.class_predictions.labels(manifest.name, manifest.version, predicted, decision(verdict)).inc()
        metrics.p_value.observe(verdict.p_value)
        metrics.score.observe(verdict.score)
        metrics.clamped.inc(verdict.clamped)
        stages = {"decode": decode_ms, "queue": answer.queue_ms}
        stages |= {"forward": verdict.forward_ms, "score": verdict.score_ms}
        for stage, duration_ms in stages.items():
            metrics.stage_duration.labels(stage).observe(duration_ms / 1000)
        self._drift.update(not verdict.accepted)
        metrics.drift_evidence.set(self._drift.evidence)
        metrics.drift_alarm.set(self._drift.raised)

    def _render(self, verdict: Verdict, top_k: int, prediction_id: str) -> Document:
        best = np.argsort(-verdict.probabilities, kind="stable")[:top_k].tolist()
        calibration = self.gate.calibration
        return {
            "id": prediction_id,
            "model": self._model,
            "predictions": [
                {
                    "class": self.gate.manifest.classes[index],
                    "index": index,
                    "probability": float(verdict.probabilities[index]),
                }
                for index in best
            ],
            "decision": decision(verdict),
            "ood": {
                "scorer": calibration.scorer.name,
                "score": verdict.score,
                "threshold": calibration.threshold,
                "p_value": verdict.p_value,
                "w": calibration.scorer.w,
                "terms": verdict.terms,
            },
        }


def decision(verdict: Verdict) -> str:
    """The word for it."""
    return "accept" if verdict.accepted else "reject"

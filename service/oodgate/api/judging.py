"""A batch's way through a worker: every picture is opened and preprocessed, then all of them are judged in one forward.

The worker that runs the forward opens the pictures itself, so that on a CPU no other threads compete with it for the
cores; where a worker has several cores, or only waits for a GPU, further threads help it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import structlog

from oodgate.errors import OutOfMemory, RequestError
from oodgate.gate import Gate, Verdict
from oodgate.images.opening import HostOpener, Opened, OpenPicture
from oodgate.model import is_out_of_memory
from oodgate.pixels import Opener, Pixels, Ready

Picture = OpenPicture | Opened
"""What a worker opens, or what was opened before."""

log = structlog.stdlib.get_logger("oodgate")


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict, and how long its picture took to open."""

    verdict: Verdict
    decode_ms: float


class Judge:
    """Judges batches of pictures that are not open yet."""

    def __init__(
        self, gate: Gate, opener: Opener | None = None, on_forward: Callable[[int], None] = lambda images: None
    ) -> None:
        """The `opener` is the host's if not given; `on_forward` hears the size of every forward."""
        self._gate, self._on_forward = gate, on_forward
        self._opener = opener or HostOpener(gate.manifest.preprocessing)

    def judge(self, pictures: Sequence[Picture]) -> list[Judgement | RequestError]:
        """One judgement a picture; one that cannot be opened or judged gets its error, its neighbours do not."""
        found = self._open(pictures)
        pixels = [one.pixels for one in found if not isinstance(one, RequestError)]
        return list(_in_place(found, iter(self._judge_opened(pixels))))

    def _judge_opened(self, pixels: Sequence[Pixels]) -> Sequence[Verdict | RequestError]:
        if not pixels:
            return []
        self._on_forward(len(pixels))
        try:
            return self._gate.judge(pixels)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        return self._judge_fewer(pixels)

    def _judge_fewer(self, pixels: Sequence[Pixels]) -> Sequence[Verdict | RequestError]:
        """Each half alone, outside of the handler, which would keep the memory of the failed forward alive."""
        self._gate.model.free_memory()
        if len(pixels) == 1:
            return [OutOfMemory("the device has not enough memory for this image now; try again later")]
        log.warning("out of memory, the batch is halved", images=len(pixels))
        half = len(pixels) // 2
        return [*self._judge_opened(pixels[:half]), *self._judge_opened(pixels[half:])]

    def _open(self, pictures: Sequence[Picture]) -> list[Ready | RequestError]:
        """Every picture in its place; only those that are not open yet cost anything."""
        closed = [picture for picture in pictures if not isinstance(picture, Opened)]
        newly = iter(self._opener.open(closed))
        return [picture if isinstance(picture, Opened) else next(newly) for picture in pictures]


def _in_place(
    found: Sequence[Ready | RequestError], verdicts: Iterator[Verdict | RequestError]
) -> Iterator[Judgement | RequestError]:
    for one in found:
        if isinstance(one, RequestError):
            yield one
        else:
            verdict = next(verdicts)
            yield verdict if isinstance(verdict, RequestError) else Judgement(verdict, one.decode_ms)

"""One image on its way through a front: decoded, put into a slot, judged by the device process.

A slot is taken before a picture is opened and given back once: at once where nothing of it is sent, else when the
device process says the last of it. So no picture is written over another whose judgement somebody waits for.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import NamedTuple

from oodgate.api.inquiry import Answered
from oodgate.errors import NotReady, RequestError
from oodgate.fronts.exchanges import Exchanges, gone
from oodgate.fronts.messages import Ask, Transform, pack_ask, read_refusal
from oodgate.fronts.refusals import Refusals
from oodgate.fronts.slots import FreeSlots, Slots
from oodgate.fronts.wire import Frame, Kind
from oodgate.images.opening import FilePicture, Opened, opened
from oodgate.settings import Settings

_MOST_ATTEMPTS = 5  # while one model takes another's place


class Sender(NamedTuple):
    """What a request says of its image."""

    request_id: str
    client: str  # as of `told_client`
    lane: str
    patience_ms: float


class Asking:
    """Opens pictures on threads and asks the device process for its judgement."""

    def __init__(
        self, settings: Settings, exchanges: Exchanges, slots: Slots, transform: Transform, threads: int, keeps: bool
    ) -> None:
        """Start the threads; the files go along with the pictures where the service `keeps` some."""
        self.transform = transform
        self._settings = settings
        self._exchanges = exchanges
        self._slots, self._free = slots, FreeSlots(slots.shape.count)
        self._refusals = Refusals()
        self._keeps = keeps
        self._openers = ThreadPoolExecutor(threads, thread_name_prefix="oodgate-decode")

    @property
    def able(self) -> bool:
        """Whether pictures can be opened here."""
        return self.transform.preprocessing is not None

    @property
    def deadline_ms(self) -> float:
        """The longest that an image may wait."""
        return self._settings.deadline_ms

    def check_room(self, sender: Sender) -> None:
        """Raise what an image would be refused with now, as far as that is known here."""
        self._refusals.check(sender.lane, sender.patience_ms)
        self._free.check()

    async def judge(self, data: bytes, sender: Sender, top_k: int) -> Answered:
        """The prediction of an image file; raises the RequestError that says why there is none."""
        began_s = perf_counter()
        for _ in range(_MOST_ATTEMPTS):
            if answered := await self._attempt(data, sender, top_k, began_s):
                return answered
        raise NotReady("the model is being replaced; send the request to another instance")

    async def _attempt(self, data: bytes, sender: Sender, top_k: int, began_s: float) -> Answered | None:
        """The answer; None where the model was replaced meanwhile by one that sees pictures otherwise."""
        transform, slot = self.transform, self._free.take()
        try:
            picture = await self._open(data, transform)
            self._slots.write(slot, picture.pixels)
            ask = Ask(slot, transform.number, top_k, picture.decode_ms, began_s, *sender)
            reply = self._send(ask, data if self._keeps else b"")
        except BaseException:
            self._free.give_back(slot)
            raise
        try:
            return _read(await reply)
        except RequestError as error:
            self._refusals.learn(sender.lane, sender.patience_ms, error)
            raise

    async def _open(self, data: bytes, transform: Transform) -> Opened:
        if transform.preprocessing is None:
            raise NotReady("the model is being replaced; send the request to another instance")
        picture = FilePicture(data, self._settings.max_pixels, self._settings.formats)
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._openers, opened, picture, transform.preprocessing)
        if isinstance(found, RequestError):
            raise found
        return found

    def _send(self, ask: Ask, file: bytes) -> "asyncio.Future[Frame | None]":
        """Hand a slot over, and return where the reply will be."""
        reply: asyncio.Future[Frame | None] = asyncio.get_running_loop().create_future()

        def on_frame(frame: Frame | None) -> None:
            self._free.give_back(ask.slot)
            if not reply.done():
                reply.set_result(frame)

        number = self._exchanges.begin(Kind.ASK, on_frame, *pack_ask(ask, file))
        reply.add_done_callback(lambda done: self._exchanges.say(Kind.LEFT, number) if done.cancelled() else None)
        return reply


def _read(frame: Frame | None) -> Answered | None:
    if frame is None:
        raise gone()
    if frame.kind == Kind.REFUSAL:
        raise read_refusal(frame.payload)
    if frame.kind == Kind.AGAIN:
        return None
    return Answered(frame.payload[1:], "accept" if frame.payload[:1] == b"\1" else "reject")

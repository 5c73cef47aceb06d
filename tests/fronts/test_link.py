"""What one process says the other hears: whole, in order, in few pieces."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager

from oodgate.fronts.link import Link
from oodgate.fronts.wire import MOST_BYTES, Frame, Frames, Kind

Hear = Callable[[], Awaitable[list[Frame]]]


def ignore(frame: Frame) -> None:
    pass


async def connected(end: socket.socket, on_frame: Callable[[Frame], None] = ignore) -> Link:
    link = Link(MOST_BYTES, on_frame, lambda: None)
    await asyncio.get_running_loop().create_unix_connection(lambda: link, sock=end)
    return link


@asynccontextmanager
async def linked() -> AsyncIterator[tuple[Link, socket.socket, Hear]]:
    """A link, the other end of it as a bare socket, and what hears the next piece that comes there."""
    own, other = socket.socketpair()
    other.setblocking(False)
    link = await connected(own)

    async def hear() -> list[Frame]:
        return list(Frames().feed(await asyncio.get_running_loop().sock_recv(other, 2**16)))

    with other:
        yield link, other, hear
        link.close()


def run(conversation: Coroutine[None, None, None]) -> None:
    asyncio.run(asyncio.wait_for(conversation, 10))


def test_frames_of_one_round_come_in_one_piece_and_in_order() -> None:
    async def conversation() -> None:
        async with linked() as (link, _, hear):
            for exchange in range(3):
                link.send(Kind.ANSWER, exchange, b"a", b"b")
            assert await hear() == [Frame(Kind.ANSWER, exchange, b"ab") for exchange in range(3)]

    run(conversation())


def test_many_frames_are_not_kept_until_the_last_of_them() -> None:
    async def conversation() -> None:
        async with linked() as (link, other, hear):
            for exchange in range(100):
                link.send(Kind.ANSWER, exchange)
            before = list(Frames().feed(other.recv(2**16)))  # the round is not over
            assert 90 <= len(before) < 100
            assert [frame.exchange for frame in before + await hear()] == list(range(100))

    run(conversation())


def test_a_frame_alone_does_not_wait_for_others() -> None:
    async def conversation() -> None:
        async with linked() as (link, _, hear):
            for exchange in range(2):
                link.send(Kind.TAKEN, exchange)
                assert await hear() == [Frame(Kind.TAKEN, exchange, b"")]

    run(conversation())


def test_what_was_said_before_the_end_is_heard_and_nothing_after_it() -> None:
    async def conversation() -> None:
        async with linked() as (link, _, hear):
            link.send(Kind.WELCOME, 0, b"settings")
            link.send(Kind.STOP)
            link.close()
            link.send(Kind.STOP)
            assert await hear() == [Frame(Kind.WELCOME, 0, b"settings"), Frame(Kind.STOP, 0, b"")]
            assert await hear() == []  # the end

    run(conversation())


def test_what_is_said_to_nobody_is_no_fault() -> None:
    async def conversation() -> None:
        async with linked() as (link, other, _):
            link.send(Kind.REPORT, 0, bytes(10))
            other.close()
            while link.open:
                await asyncio.sleep(0.001)
            link.send(Kind.REPORT, 0, bytes(10))

    run(conversation())


def test_a_message_that_cannot_be_understood_does_not_keep_the_next_from_being_heard() -> None:
    heard: list[int] = []

    def on_frame(frame: Frame) -> None:
        if frame.kind == Kind.REPORT:
            raise ValueError("nobody understands that")
        heard.append(frame.exchange)

    async def conversation() -> None:
        one, other = [await connected(end, on_frame) for end in socket.socketpair()]
        one.send(Kind.REPORT, 0, b"?")
        one.send(Kind.LEFT, 7)
        while not heard:
            await asyncio.sleep(0.001)
        one.close()
        other.close()

    run(conversation())
    assert heard == [7]

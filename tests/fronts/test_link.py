"""What one process says the other hears: whole, in order, in few pieces."""

import asyncio
import socket
from collections.abc import Callable, Coroutine

from oodgate.fronts.link import Link
from oodgate.fronts.wire import MOST_BYTES, Frame, Frames, Kind


async def linked(on_frame: Callable[[Frame], None]) -> tuple[Link, socket.socket]:
    """A link, and the other end of it as a bare socket."""
    own, other = socket.socketpair()
    link = Link(MOST_BYTES, on_frame, lambda: None)
    await asyncio.get_running_loop().create_unix_connection(lambda: link, sock=own)
    other.setblocking(False)
    return link, other


def run(conversation: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(asyncio.wait_for(conversation(), 10))


def test_frames_of_one_round_come_in_one_piece_and_in_order() -> None:
    async def conversation() -> None:
        link, other = await linked(lambda frame: None)
        with other:
            for exchange in range(3):
                link.send(Kind.ANSWER, exchange, b"a", b"b")
            piece = await asyncio.get_running_loop().sock_recv(other, 2**16)
            link.close()
        assert list(Frames().feed(piece)) == [Frame(Kind.ANSWER, exchange, b"ab") for exchange in range(3)]

    run(conversation)


def test_many_frames_are_not_kept_until_the_last_of_them() -> None:
    async def conversation() -> None:
        link, other = await linked(lambda frame: None)
        with other:
            for exchange in range(100):
                link.send(Kind.ANSWER, exchange)
            before = other.recv(2**16)  # the round is not over
            after = await asyncio.get_running_loop().sock_recv(other, 2**16)
            link.close()
        frames, at_once = list(Frames().feed(before + after)), len(list(Frames().feed(before)))
        assert [frame.exchange for frame in frames] == list(range(100))
        assert 90 <= at_once < 100

    run(conversation)


def test_a_frame_alone_does_not_wait_for_others() -> None:
    async def conversation() -> None:
        link, other = await linked(lambda frame: None)
        with other:
            for exchange in range(2):
                link.send(Kind.TAKEN, exchange)
                piece = await asyncio.get_running_loop().sock_recv(other, 2**16)
                assert list(Frames().feed(piece)) == [Frame(Kind.TAKEN, exchange, b"")]
            link.close()

    run(conversation)


def test_what_was_said_before_the_end_is_heard() -> None:
    async def conversation() -> None:
        link, other = await linked(lambda frame: None)
        with other:
            link.send(Kind.WELCOME, 0, b"settings")
            link.send(Kind.STOP)
            link.close()
            link.send(Kind.STOP)
            heard = b""
            while piece := await asyncio.get_running_loop().sock_recv(other, 2**16):
                heard += piece
        assert list(Frames().feed(heard)) == [Frame(Kind.WELCOME, 0, b"settings"), Frame(Kind.STOP, 0, b"")]

    run(conversation)


def test_what_is_said_to_nobody_is_no_fault() -> None:
    async def conversation() -> None:
        link, other = await linked(lambda frame: None)
        link.send(Kind.REPORT, 0, bytes(10))
        other.close()
        while link.open:
            await asyncio.sleep(0.001)
        link.send(Kind.REPORT, 0, bytes(10))
        link.close()

    run(conversation)


def test_a_message_that_cannot_be_understood_does_not_keep_the_next_from_being_heard() -> None:
    heard: list[int] = []

    def on_frame(frame: Frame) -> None:
        if frame.kind == Kind.REPORT:
            raise ValueError("nobody understands that")
        heard.append(frame.exchange)

    async def conversation() -> None:
        link, other = await linked(on_frame)
        back = Link(MOST_BYTES, lambda frame: None, lambda: None)
        await asyncio.get_running_loop().create_unix_connection(lambda: back, sock=other)
        back.send(Kind.REPORT, 0, b"?")
        back.send(Kind.LEFT, 7)
        while not heard:
            await asyncio.sleep(0.001)
        link.close()
        back.close()

    run(conversation)
    assert heard == [7]

"""The connection of a handler that is a coroutine, over real sockets."""

import asyncio
import os
import random
import socket
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tcppar.child.async_connection import AsyncConnection
from tcppar.child.errors import LimitExceeded, PeerGone, TimedOut
from tcppar.records import Endpoints, Family
from tests.support.conversation import LONG, MUCH, SHORT, children, connected, receive_all, reset, takes

pytestmark = pytest.mark.timeout(60)

TCP = Endpoints(Family.IPV4, "192.0.2.1", 4000, "198.51.100.2", 80)
Talk = Callable[[AsyncConnection, socket.socket], Coroutine[object, object, None]]


def over(family: str, talk: Talk, timeout: float | None = None) -> None:
    """Run a conversation over a new pair of sockets."""
    served, peer = connected(family)

    async def converse() -> None:
        conn = AsyncConnection(served, id="abcd-7", service="echo", endpoints=TCP, timeout=timeout)
        await talk(conn, peer)

    with served, peer:
        asyncio.run(converse(), debug=True)


@pytest.fixture(params=["tcp", "unix"])
def converse(request: pytest.FixtureRequest) -> Callable[[Talk], None]:
    """Runs a conversation over a pair of sockets, of each kind."""
    family: str = request.param
    return lambda talk: over(family, talk)


@pytest.fixture
def beside() -> Iterator[ThreadPoolExecutor]:
    """Runs what the peer does at the same time."""
    with ThreadPoolExecutor() as threads:
        yield threads


async def waits(task: "asyncio.Task[object]", conn: AsyncConnection) -> None:
    """Let a task run until it waits for the socket."""
    while not (task.done() or conn._reader or conn._writer):
        await asyncio.sleep(0)
    assert not task.done()


# Reading.


def test_it_reads_as_the_other_kind_does(converse: Callable[[Talk], None]) -> None:
    async def talk(conn: AsyncConnection, peer: socket.socket) -> None:
        peer.sendall(b"hello\nyou\r\n123end; one\ntwo")
        assert await conn.read(2) == b"he"
        assert await conn.read_until() == b"llo\n"
        assert await conn.read_until(b"\r\n") == b"you\r\n"
        assert await conn.read_exactly(3) == b"123"
        assert await conn.read_exactly(0) == b""
        assert await conn.read_until(b"; ") == b"end; "
        peer.close()
        assert [line async for line in conn.lines()] == [b"one\n", b"two"]
        assert [line async for line in conn.lines()] == []
        assert await conn.read() == b""
        assert await conn.read_until() == b""

    converse(talk)


def test_lines_say_that_they_are_awaited(converse: Callable[[Talk], None]) -> None:
    async def talk(conn: AsyncConnection, peer: socket.socket) -> None:
        peer.sendall(b"one\ntwo\n")
        with pytest.raises(TypeError, match="async for line in"):
            for _ in conn.lines():  # type: ignore[attr-defined]
                pass
        lines = conn.lines()
        assert await anext(lines) == b"one\n"
        assert await anext(aiter(lines)) == b"two\n"

    converse(talk)


def test_limits_and_early_ends_are_told_as_by_the_other_kind(converse: Callable[[Talk], None]) -> None:
    async def talk(conn: AsyncConnection, peer: socket.socket) -> None:
        peer.sendall(b"12345\nhalf")
        with pytest.raises(LimitExceeded):
            await conn.read_until(limit=5)
        with pytest.raises(LimitExceeded):
            await anext(conn.lines(limit=5))
        with pytest.raises(ValueError, match="at least 1"):
            await conn.read(0)
        assert await conn.read_until(limit=6) == b"12345\n"
        peer.close()
        with pytest.raises(PeerGone) as told:
            await conn.read_until()
        assert told.value.partial == b"half"
        with pytest.raises(PeerGone) as told:
            await conn.read_exactly(1)
        assert told.value.partial == b""

    converse(talk)


def test_it_waits_for_what_comes_late(converse: Callable[[Talk], None]) -> None:
    async def talk(conn: AsyncConnection, peer: socket.socket) -> None:
        line: asyncio.Task[object] = asyncio.create_task(conn.read_until())
        for piece in (b"in ", b"three ", b"pieces\n"):
            await waits(line, conn)
            peer.sendall(piece)
            while conn._reader is not None and not conn._reader.done():
                await asyncio.sleep(0)
        assert await line == b"in three pieces\n"

    converse(talk)


# Writing.


def test_write_writes_all_of_it(converse: Callable[[Talk], None], beside: ThreadPoolExecutor) -> None:
    async def talk(conn: AsyncConnection, peer: socket.socket) -> None:
        received = beside.submit(receive_all, peer)
        await conn.write(MUCH)
        await conn.write(bytearray(MUCH), timeout=LONG)
        await conn.write_all([b"and ", memoryview(b"more")])
        await conn.close_writing()
        assert await asyncio.wrap_future(received) == MUCH * 2 + b"and more"

    converse(talk)


def test_tasks_write_one_after_the_other_and_each_in_one_piece(
    converse: Callable[[Talk], None], beside: ThreadPoolExecutor
) -> None:
    texts = [b"a" * len(MUCH), b"b", b"c" * len(MUCH), b"d"]

    async def talk(conn: AsyncConnection, peer: socket.socket) -> None:
        writers = [asyncio.create_task(conn.write(text)) for text in texts]
        await waits(writers[0], conn)
        received = beside.submit(receive_all, peer)
        await asyncio.gather(*writers)
        await conn.close_writing()
        assert await asyncio.wrap_future(received) == b"".join(texts)

    converse(talk)


def test_room_that_has_just_come_belongs_to_the_task_whose_turn_it_is(
    converse: Callable[[Talk], None], beside: ThreadPoolExecutor
) -> None:
    async def talk(conn: AsyncConnection, peer: socket.socket) -> None:
        first: asyncio.Task[object] = asyncio.create_task(conn.write(MUCH))
        await waits(first, conn)
        head = peer.recv(1 << 17, socket.MSG_WAITALL)  # at least so much a socket holds
        received = beside.submit(receive_all, peer)
        await conn.write(b"second")
        await first
        await conn.close_writing()
        rest = await asyncio.wrap_future(received)
        assert head + rest == MUCH + b"second"

    converse(talk)


def test_one_task_reads_while_another_writes(converse: Callable[[Talk], None], beside: ThreadPoolExecutor) -> None:
    async def talk(conn: AsyncConnection, peer: socket.socket) -> None:
        reader: asyncio.Task[object] = asyncio.create_task(conn.read_until())
        await waits(reader, conn)
        writer: asyncio.Task[object] = asyncio.create_task(conn.write(MUCH))
        await waits(writer, conn)
        peer.sendall(b"while you write\n")
        assert await reader == b"while you write\n"
        received = beside.submit(receive_all, peer)
        await writer
        await conn.close_writing()
        assert await asyncio.wrap_future(received) == MUCH

    converse(talk)


def test_a_second_task_that_reads_is_a_mistake_that_is_told(converse: Callable[[Talk], None]) -> None:
    async def talk(conn: AsyncConnection, peer: socket.socket) -> None:
        reader: asyncio.Task[object] = asyncio.create_task(conn.read())
        await waits(reader, conn)
        with pytest.raises(RuntimeError, match="another task is reading"):
            await conn.read()
        peer.sendall(b"for the first one")
        assert await reader == b"for the first one"

    converse(talk)


def test_whose_bytes_another_task_has_read_waits_for_more(converse: Callable[[Talk], None]) -> None:
    async def talk(conn: AsyncConnection, peer: socket.socket) -> None:
        peer.sendall(b"for one of them")
        receives: asyncio.Task[object] = asyncio.create_task(conn.read())
        takes_it_away: asyncio.Task[object] = asyncio.create_task(conn.read())
        assert await takes_it_away == b"for one of them"
        await waits(receives, conn)
        peer.sendall(b"for the other")
        assert await receives == b"for the other"

    converse(talk)


def test_a_peer_that_never_lets_wait_does_not_stop_the_other_tasks(converse: Callable[[Talk], None]) -> None:
    async def talk(conn: AsyncConnection, peer: socket.socket) -> None:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        other = asyncio.create_task(count())
        for number in range(50):
            peer.sendall(b"line\n")
            assert await conn.read_until() == b"line\n"
            assert turns > number
        other.cancel()

    converse(talk)


# Time limits.


@pytest.mark.parametrize(
    "read",
    [
        lambda conn, **limit: conn.read(**limit),
        lambda conn, **limit: conn.read_exactly(3, **limit),
        lambda conn, **limit: conn.read_until(**limit),
        lambda conn, **limit: anext(conn.lines(**limit)),
    ],
    ids=["read", "read_exactly", "read_until", "lines"],
)
def test_a_silent_peer_has_as_much_time_as_the_limit_says(
    converse: Callable[[Talk], None], read: Callable[..., Awaitable[bytes]]
) -> None:
    async def talk(conn: AsyncConnection, peer: socket.socket) -> None:
        with takes(SHORT), pytest.raises(TimedOut, match="the time limit has passed"):
            await read(conn, timeout=SHORT)
        with takes(0), pytest.raises(TimedOut):
            await read(conn, timeout=0)
        conn.timeout = SHORT
        with takes(SHORT), pytest.raises(TimedOut):
            await read(conn)
        peer.sendall(b"in\n")
        assert await read(conn, timeout=0) == b"in\n"

    converse(talk)


def test_a_peer_that_takes_nothing_has_as_much_time_as_the_limit_says(converse: Callable[[Talk], None]) -> None:
    async def talk(conn: AsyncConnection, peer: socket.socket) -> None:
        await conn.write(b"there is room", timeout=0)
        with takes(SHORT), pytest.raises(TimedOut):
            await conn.write(MUCH, timeout=SHORT)
        with takes(0), pytest.raises(TimedOut):
            await conn.write(MUCH, timeout=0)

    converse(talk)


def test_who_waits_for_the_turn_to_write_has_a_limit_too(
    converse: Callable[[Talk], None], beside: ThreadPoolExecutor
) -> None:
    async def talk(conn: AsyncConnection, peer: socket.socket) -> None:
        first: asyncio.Task[object] = asyncio.create_task(conn.write(MUCH))
        await waits(first, conn)
        with takes(SHORT), pytest.raises(TimedOut):
            await conn.write(b"never sent", timeout=SHORT)
        received = beside.submit(receive_all, peer)
        await first
        await conn.write(b"sent")
        await conn.close_writing()
        assert await asyncio.wrap_future(received) == MUCH + b"sent"

    converse(talk)


def test_a_peer_that_never_lets_wait_has_no_more_time(
    converse: Callable[[Talk], None], beside: ThreadPoolExecutor
) -> None:
    size = 1 << 20

    async def talk(conn: AsyncConnection, peer: socket.socket) -> None:
        sent = beside.submit(peer.sendall, bytes(size))
        data, expired = b"", 0
        while not data:
            try:
                data = await conn.read_exactly(size, timeout=0)
            except TimedOut:
                expired += 1
        assert data == bytes(size)
        # Each call takes what one attempt finds.
        assert expired >= size // 65536 - 1
        await asyncio.wrap_future(sent)

    converse(talk)


def send_in_pieces(peer: socket.socket, data: bytes, turn: threading.Semaphore) -> None:
    cut = random.Random(1)
    at = 0
    while at < len(data):
        assert turn.acquire(timeout=LONG)
        size = cut.randint(1, 40)
        peer.sendall(data[at : at + size])
        at += size
    peer.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("outer", [False, True], ids=["own limit", "cancelled"])
def test_a_limit_that_passes_in_the_moment_when_bytes_come_loses_nothing(
    converse: Callable[[Talk], None], beside: ThreadPoolExecutor, outer: bool
) -> None:
    lines = b"".join(b"%d\n" % number for number in range(3000))

    async def line_within(conn: AsyncConnection, seconds: float) -> bytes:
        if not outer:
            return await conn.read_until(timeout=seconds)
        async with asyncio.timeout(seconds):
            return await conn.read_until()

    async def talk(conn: AsyncConnection, peer: socket.socket) -> None:
        # Whenever a limit has passed, a piece is sent: while the next, short one is passing.
        turn = threading.Semaphore(0)
        sent = beside.submit(send_in_pieces, peer, lines, turn)
        came, passed = [b"begin"], 0
        while came[-1]:
            try:
                came.append(await line_within(conn, passed % 13 * 1e-5))
            except (TimedOut, TimeoutError):
                passed += 1
                turn.release()
        await asyncio.wrap_future(sent)
        assert b"".join(came[1:]) == lines

    converse(talk)


# The end.


def test_a_reset_is_no_end_of_the_stream() -> None:
    async def talk(conn: AsyncConnection, peer: socket.socket) -> None:
        peer.sendall(b"half")
        reader: asyncio.Task[object] = asyncio.create_task(conn.read_until())
        await waits(reader, conn)
        reset(peer)
        with pytest.raises(PeerGone, match="Connection reset by peer") as told:
            await reader
        assert told.value.partial == b"half"
        with pytest.raises(PeerGone):
            await conn.close_writing()

    over("tcp", talk)


@pytest.mark.parametrize("timeout", [None, LONG])
def test_to_write_to_a_peer_that_is_gone_fails(converse: Callable[[Talk], None], timeout: float | None) -> None:
    async def talk(conn: AsyncConnection, peer: socket.socket) -> None:
        writer: asyncio.Task[object] = asyncio.create_task(conn.write(MUCH, timeout=timeout))
        await waits(writer, conn)
        peer.close()
        with pytest.raises(PeerGone):
            await writer
        with pytest.raises(PeerGone):
            await conn.write(b"more", timeout=timeout)

    converse(talk)


def test_close_wakes_those_who_wait(converse: Callable[[Talk], None]) -> None:
    async def talk(conn: AsyncConnection, peer: socket.socket) -> None:
        reader: asyncio.Task[object] = asyncio.create_task(conn.read())
        await waits(reader, conn)
        writer: asyncio.Task[object] = asyncio.create_task(conn.write(MUCH))
        while conn._writer is None:
            await asyncio.sleep(0)
        await conn.close()
        # Whoever gets the number next is left in peace.
        mine, other = socket.socketpair()
        with mine, other:
            heard = asyncio.Event()
            asyncio.get_running_loop().add_reader(mine, heard.set)
            for task in (reader, writer):
                with pytest.raises(OSError, match="Bad file descriptor"):
                    await task
            other.sendall(b"x")
            await heard.wait()
            asyncio.get_running_loop().remove_reader(mine)

    converse(talk)


def test_a_connection_is_closed_after_its_block(converse: Callable[[Talk], None]) -> None:
    async def talk(conn: AsyncConnection, peer: socket.socket) -> None:
        async with conn as entered:
            assert entered is conn
            was_closed = conn.closed
        assert (was_closed, conn.closed) == (False, True)
        assert peer.recv(1) == b""
        await conn.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            await conn.read(timeout=LONG)

    converse(talk)


def test_the_socket_stays_blocking_for_programs_that_get_it(converse: Callable[[Talk], None]) -> None:
    async def talk(conn: AsyncConnection, peer: socket.socket) -> None:
        with pytest.raises(TimedOut):
            await conn.read(timeout=SHORT)
        assert os.get_blocking(conn.fileno())

    converse(talk)


def test_children_that_end_disturb_nothing(converse: Callable[[Talk], None], beside: ThreadPoolExecutor) -> None:
    async def talk(conn: AsyncConnection, peer: socket.socket) -> None:
        with takes(SHORT * 4), pytest.raises(TimedOut):
            await conn.read(timeout=SHORT * 4)
        received = beside.submit(receive_all, peer)
        await conn.write(MUCH, timeout=LONG)
        await conn.close_writing()
        assert await asyncio.wrap_future(received) == MUCH

    over = threading.Event()
    with children(100) as ending:
        storm = beside.submit(ending.end_until, over)
        converse(talk)
        over.set()
        storm.result()
        assert ending.signals > 1

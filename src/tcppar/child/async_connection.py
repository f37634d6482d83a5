"""The connection of a handler that is a coroutine: as Connection, but whatever can wait is awaited."""

from __future__ import annotations

import asyncio

from tcppar.child.conversation import CHUNK, DEFAULT_TIMEOUT, NO_WAIT, OVER, Conversation, as_bytes, joined
from tcppar.child.errors import TimedOut

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
    from types import TracebackType
    from typing import NoReturn, Self

    from tcppar.child.conversation import Data, TimeLimit
    from tcppar.endpoints import Ends

# The loop's sock_recv() is not used: what it has read is lost if the task is cancelled, as time limits do it, between
# the read and the task's next step. Here the loop only tells that the socket is ready, and the task itself attempts
# the rest, in one step. Each attempt says that it must not wait (MSG_DONTWAIT), so that the socket can stay blocking:
# O_NONBLOCK belongs to the open file, and would be there for the programs that the handler gives it to as well.


class AsyncConnection(Conversation):
    """A conversation with one peer, for one event loop.

        async def handle(conn: tcppar.AsyncConnection) -> None:
            async for line in conn.lines(limit=4096):
                await conn.write(line)

    `timeout`, of every method that has it, is the time limit in seconds for the whole call. None means no limit; the
    default is the connection's own (`AsyncConnection.timeout`). With 0, a call does not wait. What was read when the
    limit passes, or when the task is cancelled, stays in the buffer, and the next call continues from there.

    One task may read while others write. If several write, the data of each is
    written in one piece, one after the other. A second task that reads while another one waits gets RuntimeError.

    After `close()` each method raises what a closed socket raises: OSError, EBADF.

    Args:
        sock: the connected socket. It may be blocking or not, and stays so.
        id: the connection's id, as in the server's log.
        service: the service's name.
        endpoints: both addresses.
        timeout: the default time limit in seconds; None means no limit.
    """

    __slots__ = ("_reader", "_turn_to_write", "_writer", "_writers")

    def __init__(
        self, sock: _socket.socket, *, id: str, service: str, endpoints: Ends, timeout: float | None = None
    ) -> None:
        super().__init__(sock, id=id, service=service, endpoints=endpoints, timeout=timeout)
        # Those who wait until the socket is ready.
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._turn_to_write = asyncio.Lock()
        self._writers = 0  # those who have the turn to write or wait for it

    async def read(self, n: int = CHUNK, *, timeout: TimeLimit = DEFAULT_TIMEOUT) -> bytes:
        """Read what is there, up to `n` bytes, and wait for the first one if there is none.

        Returns:
            One byte or more; empty at the end of the peer's stream.

        Raises:
            PeerGone: the connection broke (recv(2)).
            TimedOut: nothing came in time.
            ValueError: `n` is below 1.
        """
        if n < 1:
            raise ValueError(f"cannot read {n} bytes: it must be at least 1")
        deadline = self._deadline(timeout)
        while not self._buffer and await self._fill(deadline):
            pass  # once, unless another task takes it away
        return self._buffer.take(n)

    async def read_exactly(self, n: int, *, timeout: TimeLimit = DEFAULT_TIMEOUT) -> bytes:
        """Read exactly `n` bytes.

        Raises:
            PeerGone: the stream ended early, or the connection broke; `partial` has what came.
            TimedOut: they did not come in time; what came stays in the buffer.
            ValueError: `n` is negative.
        """
        data = await self._collect(lambda: self._buffer.take_exactly(n), timeout)
        if data is None:
            raise self._too_early()
        return data

    async def read_until(
        self, separator: bytes = b"\n", limit: int = 65536, *, timeout: TimeLimit = DEFAULT_TIMEOUT
    ) -> bytes:
        """Read up to and including the next separator.

        Args:
            separator: one byte or more.
            limit: the largest size, in bytes, including the separator.
            timeout: see the class.

        Returns:
            What came, with the separator at its end. Empty if the stream ended and nothing was left to read, as
            with readline() of file objects.

        Raises:
            LimitExceeded: the separator did not come within the limit; what came stays in the buffer.
            PeerGone: the stream ended after a part, or the connection broke; `partial` has what came.
            TimedOut: it did not come in time; what came stays in the buffer.
            ValueError: the separator is empty, or the limit is below 1.
        """
        record = await self._collect(lambda: self._buffer.take_until(separator, limit), timeout)
        if record is not None:
            return record
        if self._buffer:
            raise self._too_early()
        return b""

    def lines(self, limit: int = 65536, *, timeout: TimeLimit = DEFAULT_TIMEOUT) -> AsyncIterator[bytes]:
        r"""Read line by line to the end of the stream, by `async for`.

        Args:
            limit: the largest size of a line, in bytes, including its end.
            timeout: for each line, not for all together.

        Yields:
            Each line with its end, `b"\n"`. The last one has none if the stream ends without it.

        Raises:
            LimitExceeded, TimedOut, ValueError: as `read_until` does.
            PeerGone: the connection broke. `partial` has the part of a line that came.
        """
        return _Lines(self._each_line(limit, timeout))

    async def _each_line(self, limit: int, timeout: TimeLimit) -> AsyncGenerator[bytes, None]:
        while (line := await self._collect(lambda: self._buffer.take_until(b"\n", limit), timeout)) is not None:
            yield line
        if self._buffer:
            yield self._buffer.take_all()

    async def write(self, data: Data, *, timeout: TimeLimit = DEFAULT_TIMEOUT) -> None:
        """Write all of it: hand it to the system, which sends it. This does not mean that it has arrived.

        Other tasks run only if it has to wait for room.

        Raises:
            PeerGone: the peer takes no more (send(2)), or this side has closed its writing.
            TimedOut: the peer did not take all of it in time. How much it took is not known, so it
                usually makes no sense to write more. The same is true if the task is cancelled.
        """
        await self._send(as_bytes(data), timeout)

    async def write_all(
        self,
        data: Data | Iterable[Data],
        *,
        timeout: TimeLimit = DEFAULT_TIMEOUT,
    ) -> None:
        """Write one buffer, or several that are joined into one, as `write` does."""
        await self._send(joined(data), timeout)

    async def close_writing(self) -> None:
        """Say that nothing more will be written (shutdown(2), SHUT_WR): the peer reads the end of the stream.

        Raises:
            PeerGone: the connection is broken.
        """
        self._shut_writing()

    async def close(self) -> None:
        """Close the connection. Closing it again does nothing. Tasks that wait in it get OSError, EBADF.

        If data from the peer is unread, the system resets the connection, and the peer can lose what was written last
        (RFC 1122, 4.2.2.13). If that is possible, call `close_writing()` first, and read to the end.
        """
        # While it is still ours: a closed descriptor wakes nobody, and its number may be somebody else's soon.
        self._unwatch_reading()
        self._unwatch_writing()
        self._socket.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _collect(self, take: Callable[[], bytes | None], timeout: TimeLimit) -> bytes | None:
        """Receive until `take` finds enough in the buffer; None if the stream ends before."""
        if (taken := take()) is not None:
            return taken
        deadline = self._deadline(timeout)
        while await self._fill(deadline):
            if (taken := take()) is not None:
                return taken
            if deadline is not None:
                self._seconds_to(deadline)  # as in Connection
        return None

    async def _fill(self, deadline: float | None) -> bool:
        """Receive what is there into the buffer, at least a byte; False at the end of the stream."""
        waited = False
        while (chunk := self._receive_once(CHUNK, NO_WAIT)) is None:
            await self._readable(deadline)
            waited = True
        self._buffer.append(chunk)
        if not waited:
            # A peer that never makes us wait must not stop the other tasks. The bytes are safe by now.
            await asyncio.sleep(0)
        return bool(chunk)

    async def _send(self, data: bytes | memoryview, timeout: TimeLimit) -> None:
        # Nearly always there is room for all of it, and nobody writes whose data would be split by it.
        if not self._writers and (sent := self._send_once(data, NO_WAIT)) is not None:
            if sent == len(data):
                return
            data = memoryview(data)[sent:]
        self._writers += 1
        try:
            # Without other writers the turn is free, and so is taken at once: before anybody else comes in between.
            async with asyncio.timeout(self._seconds(timeout)), self._turn_to_write:
                await self._send_waiting(data)
        except TimeoutError:
            raise TimedOut(OVER) from None
        finally:
            self._writers -= 1

    async def _send_waiting(self, data: bytes | memoryview) -> None:
        while (sent := self._send_once(data, NO_WAIT)) != len(data):
            data = memoryview(data)[sent or 0 :]
            await self._writable()

    async def _readable(self, deadline: float | None) -> None:
        """Wait until an attempt is worth it, or the time is over.

        Raises:
            TimedOut: it was over already.
            RuntimeError: a task waits here already; the loop knows only one for a socket.
        """
        if self._reader is not None:
            raise RuntimeError("another task is reading from this connection")
        loop = asyncio.get_running_loop()
        self._reader = reader = loop.create_future()
        try:
            loop.add_reader(self._socket, _wake, reader)
            await _woken(reader, None if deadline is None else self._seconds_to(deadline))
        finally:
            self._unwatch_reading()

    async def _writable(self) -> None:
        """Wait until an attempt is worth it; only one task has the turn to."""
        loop = asyncio.get_running_loop()
        self._writer = writer = loop.create_future()
        try:
            loop.add_writer(self._socket, _wake, writer)
            await writer
        finally:
            self._unwatch_writing()

    def _unwatch_reading(self) -> None:
        if self._reader is not None:
            self._reader.get_loop().remove_reader(self._socket)
            _wake(self._reader)
            self._reader = None

    def _unwatch_writing(self) -> None:
        if self._writer is not None:
            self._writer.get_loop().remove_writer(self._socket)
            _wake(self._writer)
            self._writer = None


class _Lines:
    """What `lines` returns: it says of itself how to read it."""

    __slots__ = ("_each", "aclose")

    def __init__(self, each: AsyncGenerator[bytes, None]) -> None:
        self._each = each
        self.aclose = each.aclose

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._each

    async def __anext__(self) -> bytes:
        return await anext(self._each)

    def __iter__(self) -> NoReturn:
        raise TypeError("the lines of an AsyncConnection are awaited: write `async for line in conn.lines()`")


async def _woken(sleeper: asyncio.Future[None], seconds: float | None) -> None:
    """Wait until somebody wakes it, or the time is over. Nothing is cancelled thereby, so that nothing can be lost."""
    if seconds is None:
        await sleeper
        return
    alarm = sleeper.get_loop().call_later(seconds, _wake, sleeper)
    try:
        await sleeper
    finally:
        alarm.cancel()


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)

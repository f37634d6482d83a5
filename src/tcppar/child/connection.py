"""The connection of a handler that is a plain function: blocking, buffered, with time limits."""

from __future__ import annotations

import select

from tcppar.child.conversation import CHUNK, DEFAULT_TIMEOUT, NO_WAIT, Conversation, as_bytes, joined

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType
    from typing import Self

    from tcppar.child.conversation import Data, TimeLimit

# poll(2) takes no more than some weeks in milliseconds; whoever wakes too early waits again.
_LONGEST_WAIT = 86400.0


class Connection(Conversation):
    """A conversation with one peer.

        def handle(conn: tcppar.Connection) -> None:
            for line in conn.lines(limit=4096):
                conn.write(line)

    `timeout`, of every method that has it, is the time limit in seconds for the whole call, on the monotonic clock.
    None means no limit; the default is the connection's own (`Connection.timeout`). With 0, a call does not wait. What
    was read when the limit passes stays in the buffer, and the next call continues from there.

    Signals and their handlers, including SIGCHLD from the handler's own children, lose neither bytes nor time: a call
    that was interrupted continues with the remaining time (PEP 475). What a signal handler raises is raised here.

    After `close()` each method raises what a closed socket raises: OSError, EBADF.

    Args:
        sock: the connected socket, which must be blocking, and stays so.
        id: the connection's id, as in the server's log.
        service: the service's name.
        endpoints: both addresses.
        timeout: the default time limit in seconds; None means no limit.
    """

    __slots__ = ()

    def read(self, n: int = CHUNK, *, timeout: TimeLimit = DEFAULT_TIMEOUT) -> bytes:
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
        if self._buffer:
            return self._buffer.take(n)
        return self._receive(n, self._deadline(timeout))

    def read_exactly(self, n: int, *, timeout: TimeLimit = DEFAULT_TIMEOUT) -> bytes:
        """Read exactly `n` bytes.

        Raises:
            PeerGone: the stream ended early, or the connection broke; `partial` has what came.
            TimedOut: they did not come in time; what came stays in the buffer.
            ValueError: `n` is negative.
        """
        data = self._collect(lambda: self._buffer.take_exactly(n), timeout)
        if data is None:
            raise self._too_early()
        return data

    def read_until(
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
        record = self._collect(lambda: self._buffer.take_until(separator, limit), timeout)
        if record is not None:
            return record
        if self._buffer:
            raise self._too_early()
        return b""

    def lines(self, limit: int = 65536, *, timeout: TimeLimit = DEFAULT_TIMEOUT) -> Iterator[bytes]:
        r"""Read line by line to the end of the stream.

        Args:
            limit: the largest size of a line, in bytes, including its end.
            timeout: for each line, not for all together.

        Yields:
            Each line with its end, `b"\n"`. The last one has none if the stream ends without it.

        Raises:
            LimitExceeded, TimedOut, ValueError: as `read_until` does.
            PeerGone: the connection broke. `partial` has the part of a line that came.
        """
        while (line := self._collect(lambda: self._buffer.take_until(b"\n", limit), timeout)) is not None:
            yield line
        if self._buffer:
            yield self._buffer.take_all()

    def write(self, data: Data, *, timeout: TimeLimit = DEFAULT_TIMEOUT) -> None:
        """Write all of it: hand it to the system, which sends it. This does not mean that it has arrived.

        Raises:
            PeerGone: the peer takes no more (send(2)), or this side has closed its writing.
            TimedOut: the peer did not take all of it in time. How much it took is not known, so it
                usually makes no sense to write more.
        """
        self._send(as_bytes(data), timeout)

    def write_all(
        self,
        data: Data | Iterable[Data],
        *,
        timeout: TimeLimit = DEFAULT_TIMEOUT,
    ) -> None:
        """Write one buffer, or several that are joined into one, as `write` does."""
        self._send(joined(data), timeout)

    def close_writing(self) -> None:
        """Say that nothing more will be written (shutdown(2), SHUT_WR): the peer reads the end of the stream.

        Raises:
            PeerGone: the connection is broken.
        """
        self._shut_writing()

    def close(self) -> None:
        """Close the connection. Closing it again does nothing.

        If data from the peer is unread, the system resets the connection, and the peer can lose what was written last
        (RFC 1122, 4.2.2.13). If that is possible, call `close_writing()` first, and read to the end.
        """
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _collect(self, take: Callable[[], bytes | None], timeout: TimeLimit) -> bytes | None:
        """Receive until `take` finds enough in the buffer; None if the stream ends before."""
        if (taken := take()) is not None:
            return taken
        deadline = self._deadline(timeout)
        while chunk := self._receive(CHUNK, deadline):
            self._buffer.append(chunk)
            if (taken := take()) is not None:
                return taken
            if deadline is not None:
                self._seconds_to(deadline)  # whoever sends so fast that nothing is waited for has no more time either
        return None

    def _receive(self, size: int, deadline: float | None) -> bytes:
        """Receive what is there, at least a byte; empty at the end of the stream."""
        flags = 0 if deadline is None else NO_WAIT
        while (chunk := self._receive_once(size, flags)) is None:
            self._wait(select.POLLIN, deadline)
        return chunk

    def _send(self, data: bytes | memoryview, timeout: TimeLimit) -> None:
        deadline = self._deadline(timeout)
        flags = 0 if deadline is None else NO_WAIT
        while (sent := self._send_once(data, flags)) != len(data):
            # A part went out: there was no room for more, or a signal came in between.
            data = memoryview(data)[sent or 0 :]
            self._wait(select.POLLOUT, deadline)

    def _wait(self, event: int, deadline: float | None) -> None:
        """Wait until an attempt is worth it, or the time is over.

        Raises:
            TimedOut: it was over already.
        """
        poller = select.poll()
        poller.register(self._socket, event)
        poller.poll(None if deadline is None else min(self._seconds_to(deadline), _LONGEST_WAIT) * 1000)

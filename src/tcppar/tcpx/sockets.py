"""What is known of a socket by its number.

The number is the descriptor, so that a child can go on with it. Most of what a call needs stands in the system: whether
it listens or is connected, and whether it blocks (O_NONBLOCK), which a child inherits too. The table has the rest, for
those sockets that have more: TLS, a connection that is being made, a listener that was reopened. So a number that was
never seen here is as good as another.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from tcppar.tcpx import signals, status
from tcppar.tcpx.waiting import READABLE, WRITABLE, WouldBlock

if TYPE_CHECKING:
    from tcppar.tcpx.predecessor import Predecessor

StartTls = Callable[[int], "Secured"]
"""Makes the TLS of the connection of this number."""

_LARGEST_DESCRIPTOR = 2**31 - 1
_NO_WAIT = int(socket.MSG_DONTWAIT)
# Where it is missing (some BSDs), the SIG_IGN that Python starts with does the same.
_NO_SIGNAL = int(getattr(socket, "MSG_NOSIGNAL", 0))


class View(socket.SocketType):
    """The calls of a socket, for a descriptor that belongs to somebody else: its end closes nothing.

    Raises:
        OSError: EBADF, ENOTSOCK.
    """

    def __init__(self, sockport: int) -> None:
        if not 0 <= sockport <= _LARGEST_DESCRIPTOR:
            raise status.error(errno.EBADF)
        super().__init__(fileno=sockport)

    def __del__(self) -> None:
        self.detach()

    @property
    def listens(self) -> bool:
        """Whether it is a listening socket."""
        return self.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) != 0

    @property
    def is_connected(self) -> bool:
        """Whether it has a peer; one that was reset has none any more."""
        try:
            self.getpeername()
        except OSError as error:
            if error.errno in (errno.ENOTCONN, errno.EINVAL):  # EINVAL: macOS, after a reset
                return False
            raise
        return True

    def finish_connecting(self) -> None:
        """Return if it is connected.

        Raises:
            WouldBlock: not yet.
            OSError: how the attempt failed; the system tells it once (SO_ERROR).
        """
        if number := self.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise status.error(number)
        if not self.is_connected:
            raise WouldBlock({self.fileno(): WRITABLE})


class Stream(Protocol):
    """A connection's bytes. Every method raises WouldBlock instead of waiting, and OSError."""

    def receive(self, size: int) -> bytes:
        """Up to so many bytes, at least one; none at the end."""

    def send(self, data: memoryview) -> int:
        """Send some of it, at least one byte; how much."""

    def flush(self) -> None:
        """Bring out what `send` has taken and still keeps."""

    def has_data(self) -> bool:
        """Whether there is something to receive, which stays there; False at the end of the stream."""

    def quantity(self) -> int:
        """How many bytes can be received, at least one; 0 at the end of the stream."""


class Secured(Stream, Protocol):
    """A connection's bytes with TLS (tls.py)."""

    def handshake(self) -> None:
        """Go on with the handshake. As long as it is not done, nothing else may be called."""

    def end_writing(self) -> None:
        """Tell the peer that no more comes, if it can be told at once."""


class PlainStream:
    """A connection without TLS (a Stream)."""

    def __init__(self, sockport: int) -> None:
        self._sockport = sockport
        self._view = View(sockport)

    def receive(self, size: int) -> bytes:
        try:
            return self._view.recv(size, _NO_WAIT)
        except BlockingIOError:
            raise WouldBlock({self._sockport: READABLE}) from None

    def send(self, data: memoryview) -> int:
        try:
            return self._view.send(data, _NO_WAIT | _NO_SIGNAL)
        except BlockingIOError:
            raise WouldBlock({self._sockport: WRITABLE}) from None
        except BrokenPipeError:
            signals.note_broken_pipe()  # in the signal's place, which would end a program that does not ignore it
            raise

    def flush(self) -> None:
        pass

    def has_data(self) -> bool:
        try:
            return bool(self._view.recv(1, _NO_WAIT | socket.MSG_PEEK))
        except BlockingIOError:
            raise WouldBlock({self._sockport: READABLE}) from None

    def quantity(self) -> int:
        if not self.has_data():
            return 0
        return int.from_bytes(fcntl.ioctl(self._sockport, termios.FIONREAD, bytes(4)), sys.byteorder)


class Known:
    """What the table has of one socket.

    Attributes:
        stream: its TLS, once that has begun.
        start_tls: makes its TLS, which may begin later (STARTTLS).
        connecting: a step towards the connection, until that stands.
        predecessor: the listener that this one has replaced, until its queue is empty.
        drops: how many clients this listener had turned away when it was last asked.
        quiet_from: the monotonic time from which on none of those can come back.
    """

    __slots__ = ("connecting", "drops", "identity", "predecessor", "quiet_from", "start_tls", "stream")

    def __init__(self, identity: tuple[int, int]) -> None:
        self.identity = identity
        self.stream: Secured | None = None
        self.start_tls: StartTls | None = None
        self.connecting: Callable[[], None] | None = None
        self.predecessor: Predecessor | None = None
        self.drops = 0
        self.quiet_from = 0.0

    @property
    def has_tls(self) -> bool:
        """Whether it has TLS, or may get it."""
        return self.stream is not None or self.start_tls is not None


_table: dict[int, Known] = {}


def _identity(sockport: int) -> tuple[int, int]:
    found = os.fstat(sockport)
    return found.st_dev, found.st_ino


def known(sockport: int) -> Known | None:
    """The table's entry of this socket; not that of a former one with its number, which was closed behind our back."""
    entry = _table.get(sockport)
    if entry is not None and entry.identity != _identity(sockport):
        forget(sockport)
        return None
    return entry


def remember(sockport: int) -> Known:
    """The table's entry of this socket, which from now on has one."""
    entry = known(sockport)
    if entry is None:
        entry = _table[sockport] = Known(_identity(sockport))
    return entry


def adopt_half_open(sockport: int) -> None:
    """Know of a connection that another process has begun to make."""
    entry = remember(sockport)

    def finish() -> None:
        View(sockport).finish_connecting()
        entry.connecting = None

    entry.connecting = finish


def forget(sockport: int) -> None:
    """Strike it off the table, and close what only the table knows."""
    entry = _table.pop(sockport, None)
    if entry is not None and entry.predecessor is not None:
        entry.predecessor.close()


def replace(sockport: int, successor: int) -> None:
    """Put another socket in this one's place, under its number."""
    entry = known(sockport)
    os.dup2(successor, sockport, inheritable=False)
    os.close(successor)
    if entry is not None:
        entry.identity = _identity(sockport)


def end_tls(sockport: int) -> None:
    """Tell the peer that no more comes, if the connection has TLS."""
    entry = known(sockport)
    if entry is not None and entry.stream is not None:
        entry.stream.end_writing()


def close(sockport: int) -> None:
    """Close it, and forget it.

    Raises:
        OSError: EBADF.
    """
    View(sockport)  # no file or pipe of the program's is closed by mistake
    end_tls(sockport)
    forget(sockport)
    os.close(sockport)


@contextmanager
def closed_on_failure(sockport: int) -> Iterator[None]:
    """Close it if the block raises anything."""
    try:
        yield
    except BaseException:
        close(sockport)
        raise


def stream_of(sockport: int) -> Stream:
    """The bytes of a connection.

    Raises:
        WouldBlock: it is being made.
        OSError: it is no connection, or could not be made.
    """
    entry = known(sockport)
    if entry is None:
        return PlainStream(sockport)
    if entry.connecting is not None:
        entry.connecting()
    return entry.stream or PlainStream(sockport)

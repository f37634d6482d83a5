"""What both kinds of connection have in common: who talks to whom, and one attempt to receive or to send.

Handlers' processes are forked from a spawner that has loaded this. It imports next to nothing: what it imports every
fork copies the page tables of, and every such process clears away. Without socket, enum and typing, nearly a third more
connections a second were served. So it has the socket that the socket module is a wrapper of, until somebody asks.
"""

from __future__ import annotations

import _socket
import errno
import time

from tcppar.child.buffer import Buffer
from tcppar.child.errors import PeerGone, TimedOut
from tcppar.child.own_path import own

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket as sockets
    from collections.abc import Iterable

    from tcppar.child.connection_log import ConnectionLog, Logger
    from tcppar.endpoints import Address, Ends

CHUNK = 65536
"""How many bytes are received at a time, at most."""
OVER = "the time limit has passed"
NO_WAIT = _socket.MSG_DONTWAIT
# A child has the signals' defaults, and SIGPIPE would end it. Without the flag (some BSDs) nothing else helps.
_NO_SIGNAL: int = getattr(_socket, "MSG_NOSIGNAL", 0)

# All else (EBADF, ENOMEM, ...) is no matter of the peer's and stays what it is.
GONE = frozenset(
    {
        errno.ECONNRESET,
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.EPIPE,
        errno.ENOTCONN,
        errno.ESHUTDOWN,
        errno.ETIMEDOUT,
        errno.EHOSTUNREACH,
        errno.EHOSTDOWN,
        errno.ENETUNREACH,
        errno.ENETDOWN,
        errno.ENETRESET,
        errno.EPROTO,
    }
)
"""What recv(2), send(2), tcp(7), ip(7) and icmp(7) report of a peer or of the way to it."""


class Default:
    """What stands for the connection's own time limit, where None says something else."""

    def __repr__(self) -> str:
        return "the connection's timeout"


DEFAULT_TIMEOUT = Default()
TimeLimit = float | Default | None
Data = bytes | bytearray | memoryview


class Conversation:
    """A connection as its handler sees it; the base of `Connection` and `AsyncConnection`.

    Attributes:
        id: the connection's id, as in the server's log.
        service: the service's name.
        timeout: the time limit, in seconds, of every call that is given none of its own; None is no limit.
    """

    __slots__ = ("_buffer", "_endpoints", "_log", "_socket", "id", "service", "timeout")

    def __init__(
        self, sock: _socket.socket, *, id: str, service: str, endpoints: Ends, timeout: float | None = None
    ) -> None:
        self._socket = sock
        self.id = id
        self.service = service
        self.timeout = timeout
        self._endpoints = endpoints
        self._buffer = Buffer()
        self._log: Logger | ConnectionLog | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} from {self.peer}>"

    @property
    def peer(self) -> str:
        """The peer as logs show it: `192.0.2.1:4000`, `[2001:db8::1]:4000` or `unix:/path`."""
        return self._endpoints.peer

    @property
    def remote_address(self) -> Address:
        """The peer's numeric address and port; of a Unix socket its path, which mostly is empty."""
        return self._endpoints.remote_address

    @property
    def local_address(self) -> Address:
        """The numeric address and port that the peer has connected to; of a Unix socket its path."""
        return self._endpoints.local_address

    @property
    def socket(self) -> sockets.socket:
        """The socket, for all that is not offered here. What was received but not read is no longer in it."""
        if type(self._socket) is _socket.socket:
            self._socket = self._of_socket_module()
        return self._socket  # type: ignore[return-value]

    @socket.setter
    def socket(self, other: sockets.socket) -> None:
        self._socket = other

    def _of_socket_module(self) -> _socket.socket:
        """The same connection as an object of that module's kind. What is closed stays so."""
        bare, was_closed = self._socket, self.closed
        kind, timeout = (bare.family, bare.type, bare.proto), bare.gettimeout()
        made: _socket.socket = own("tcppar.child.client_socket").ClientSocket(
            *kind, None if was_closed else bare.detach()
        )
        if was_closed:
            made.close()
        elif made.gettimeout() != timeout:  # somebody has set a default (socket.setdefaulttimeout)
            made.settimeout(timeout)
        return made

    @property
    def log(self) -> Logger | ConnectionLog:
        """A `logging.LoggerAdapter` of `tcppar.SERVICE`; every record has `connection_id`, `service` and `peer`.

        If nobody has configured logging, its records of level INFO and above go to the server's log. Where the handler
        has not even imported logging, this is an object with the same methods, which needs a quarter of the memory.
        """
        if self._log is None:
            self._log = own("tcppar.child.connection_log").log_of(self)
        return self._log

    @property
    def closed(self) -> bool:
        """Whether the connection was closed on this side."""
        return self._socket.fileno() < 0

    def fileno(self) -> int:
        """The socket's descriptor; so the connection itself can be a program's stdin or stdout (subprocess)."""
        return self._socket.fileno()

    def _finish(self) -> None:
        """After the handler: see `finish`."""
        finish(self._socket)

    # Time limits are deadlines on the monotonic clock.

    def _seconds(self, timeout: TimeLimit) -> float | None:
        return self.timeout if isinstance(timeout, Default) else timeout

    def _deadline(self, timeout: TimeLimit) -> float | None:
        seconds = self._seconds(timeout)
        return None if seconds is None else time.monotonic() + seconds

    @staticmethod
    def _seconds_to(deadline: float) -> float:
        """Seconds left, more than none.

        Raises:
            TimedOut: none are left.
        """
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimedOut(OVER)
        return left

    # One attempt. None says that it would have had to wait: because it was asked not to, or because somebody who has
    # the connection too, a program that the handler has started, say, has made it non-blocking (O_NONBLOCK belongs
    # to the open file, not to a descriptor, fcntl(2)).

    def _receive_once(self, size: int, flags: int) -> bytes | None:
        try:
            return self._socket.recv(size, flags)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno in GONE:
                raise PeerGone(f"the connection broke: {error.strerror}", self._buffer.take_all()) from error
            raise

    def _send_once(self, data: bytes | memoryview, flags: int) -> int | None:
        try:
            return self._socket.send(data, flags | _NO_SIGNAL)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno in GONE:
                raise PeerGone(f"the connection broke: {error.strerror}") from error
            raise

    def _shut_writing(self) -> None:
        try:
            self._socket.shutdown(_socket.SHUT_WR)
        except OSError as error:
            if error.errno in GONE:
                raise PeerGone(f"the connection broke: {error.strerror}") from error
            raise

    def _too_early(self) -> PeerGone:
        """The error for a stream that ended in the middle; what has come goes with it."""
        return PeerGone("the peer's stream ended too early", self._buffer.take_all())


def finish(sock: _socket.socket) -> None:
    """Tell the client that all is said, even while somebody else still has a duplicate; then close."""
    try:
        sock.shutdown(_socket.SHUT_WR)
    except OSError:
        pass  # the client is gone, or the handler has done it
    # Whatever files were made of it (socket.makefile): that class's own close would wait for theirs.
    _socket.socket.close(sock)


def as_bytes(data: Data) -> bytes | memoryview:
    """The data as something whose length is its number of bytes, which is not so of a view of larger items."""
    return data if isinstance(data, bytes) else memoryview(data).cast("B")


def joined(data: Data | Iterable[Data]) -> bytes | memoryview:
    """One buffer of one or many: joined they go out in as few packets and calls as can be."""
    return as_bytes(data) if isinstance(data, (bytes, bytearray, memoryview)) else b"".join(data)

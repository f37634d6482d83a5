"""Tables of what TCPX is to do, a row for each statement of its manuals or choice of ours; and sockets to try it on."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, TypeVar

import pytest

from tcppar.tcpx import (
    TCPOP_ACCEPT,
    TCPOP_CLOSE,
    TCPXFLG_ASYNC,
    TCPXFLG_LISTEN,
    Result,
    tcpx,
)
from tests.support.server import PATIENCE

LIMIT = PATIENCE * 1000
"""A time limit, in milliseconds, that is not to be reached."""
SHORT = 30
"""One that is."""

EPERM, EINTR, EBADF, EAGAIN, EINVAL, EMFILE, EPIPE = -1, -4, -9, -11, -22, -24, -32
ENOTSOCK, EPROTO, EOPNOTSUPP, EADDRINUSE, ECONNRESET = -88, -71, -95, -98, -104
ENOTCONN, ETIMEDOUT, ECONNREFUSED, EHOSTUNREACH = -107, -110, -111, -113


AnySocket = TypeVar("AnySocket", bound=socket.socket)


class World:
    """One family of addresses, and sockets of it, which are closed after the test.

    Attributes:
        host: the loopback address.
        family: AF_INET or AF_INET6.
    """

    def __init__(self, host: str, stack: ExitStack) -> None:
        self.host = host
        self.family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._stack = stack
        self._kept: set[int] = set()
        stack.callback(self._close_kept)  # the last thing: what has taken the number of one of them is closed by then

    def _close_kept(self) -> None:
        for sockport in self._kept:
            tcpx(TCPOP_CLOSE, sockport=sockport)

    # Plain sockets, for the other side.

    def own(self, sock: AnySocket) -> AnySocket:
        """Close it in the end."""
        self._stack.enter_context(sock)
        return sock

    def server(self, backlog: int = 5) -> socket.socket:
        """A listener."""
        listener = self.own(socket.create_server((self.host, 0), family=self.family, backlog=backlog))
        listener.settimeout(PATIENCE)
        return listener

    def client(self, port: int) -> socket.socket:
        """A client of a port."""
        return self.own(socket.create_connection((self.host, port), PATIENCE))

    def accept(self, listener: socket.socket) -> socket.socket:
        """The next client of a listener."""
        connection = self.own(listener.accept()[0])
        connection.settimeout(PATIENCE)
        return connection

    def free_port(self) -> int:
        """A port on which nobody listens."""
        with socket.create_server((self.host, 0), family=self.family) as probe:
            return int(probe.getsockname()[1])

    # Sockets of TCPX.

    def keep(self, result: Result) -> int:
        """The socket of a call that succeeded; it is closed in the end if it is still open."""
        assert result.status >= 0, result
        self._kept.add(result.sockport)
        return result.sockport

    def listen(self, port: int = 0, **more: Any) -> int:
        """A listener."""
        return self.keep(tcpx(TCPOP_ACCEPT, sockport=port, flags=TCPXFLG_LISTEN, bind=self.host, **more))

    def pair(self, flags: int = 0, **more: Any) -> tuple[int, socket.socket]:
        """A connection that ACCEPT has returned, and the client's end of it."""
        listener = self.listen()
        client = self.client(port_of(listener))
        accepted = tcpx(TCPOP_ACCEPT, sockport=listener, flags=TCPXFLG_ASYNC | flags, timer=LIMIT, **more)
        return self.keep(accepted), client

    def silent_server(self) -> tuple[int, socket.socket]:
        """A listener, and its port, whose queue is full: whoever connects gets no answer until there is room."""
        listener = self.server(backlog=0)
        port = int(listener.getsockname()[1])
        for _ in range(3):  # a queue of 0 has room for one; the kernel drops all that come after it
            client = self.own(socket.socket(self.family))
            client.setblocking(False)
            with suppress(BlockingIOError):
                client.connect((self.host, port))
        return port, listener

    def later(self, action: Callable[[], object]) -> None:
        """Do something in another thread; its end is waited for."""
        thread = threading.Thread(target=action)
        thread.start()
        self._stack.callback(thread.join)


AnyWorld = TypeVar("AnyWorld", bound=World)


@contextmanager
def new_world(kind: type[AnyWorld], host: str) -> Iterator[AnyWorld]:
    """A world, and its end."""
    with ExitStack() as stack:
        yield kind(host, stack)


Check = Callable[[Any], None]


class Table:
    """Rows: each is a function of a world, with what it checks and where that stands."""

    def __init__(self) -> None:
        self.params: list[Any] = []

    def __call__(self, source: str, statement: str) -> Callable[[Check], Check]:
        """Add the decorated function, as a row."""

        def add(check: Check) -> Check:
            self.params.append(pytest.param(check, id=f"[{source}] {statement}"))
            return check

        return add


def port_of(sockport: int) -> int:
    """The local port of a socket."""
    with socket.socket(fileno=os.dup(sockport)) as duplicate:
        return int(duplicate.getsockname()[1])


def is_open(sockport: int) -> bool:
    """Whether a descriptor is open."""
    try:
        os.fstat(sockport)
    except OSError:
        return False
    return True


def receive(peer: socket.socket, number: int) -> bytes:
    """Just so many bytes, or fewer at the end of the stream."""
    data = bytearray()
    while len(data) < number and (piece := peer.recv(number - len(data))):
        data += piece
    return bytes(data)


def fill(sockport: int) -> int:
    """Send until nothing more fits, and will not when the system makes its buffer larger: WRITE would have to wait.

    Returns:
        how many bytes were sent.
    """
    sent = 0
    with socket.socket(fileno=os.dup(sockport)) as duplicate:
        with suppress(BlockingIOError):
            while True:
                sent += duplicate.send(b"." * 65536, socket.MSG_DONTWAIT)
        duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    return sent


def reset(peer: socket.socket) -> None:
    """Break a connection from the other side."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.close()

"""What the kernel knows of a TCP connection that another process has: when it was used last, and whether its client is
still there. Linux alone (sock_diag(7)); it needs no rights, and does not touch the data.
"""

import errno
import os
import socket
import struct
from collections.abc import Container, Iterator
from types import TracebackType
from typing import Self

from tcppar.policy.idleness import Sight
from tcppar.records import Endpoints, Family

_FAMILIES = {Family.IPV4: socket.AF_INET, Family.IPV6: socket.AF_INET6}

# linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h.
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_NLMSG_ERROR = 2
_INET_DIAG_INFO = 2
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_ERROR = struct.Struct("=i")
# struct inet_diag_req_v2: family, protocol, extensions, padding, states; then struct inet_diag_sockid: its ports and
# addresses are as on the wire, its interface and its cookie (none) as on this machine.
_REQUEST = struct.Struct("=BBBxI")
_PORTS = struct.Struct("!HH")
_REST_OF_ID = struct.Struct("=III")
_NO_COOKIE = 0xFFFFFFFF
_ANY_STATE = 0xFFFFFFFF
# struct inet_diag_msg: state; after the id (48 bytes) the time of a timer, then how much is unread; behind how much is
# unsent, and the user, the socket's inode.
_MESSAGE = struct.Struct("=xBxx48x4xI8xI")
_ATTRIBUTE = struct.Struct("=HH")  # struct nlattr: length, type

# struct tcp_info (linux/tcp.h), in milliseconds: tcpi_last_data_sent, tcpi_last_ack_sent, tcpi_last_data_recv. Of a
# connection on which nothing was sent, or received, both count from its handshake.
_TIMES = struct.Struct("=I4xI")
_TIMES_AT = 44

# include/net/tcp_states.h. In any other state there is no connection: what was found is the listener it came from, or
# what is left of a connection that both sides have closed.
_ESTABLISHED, _FIN_WAIT1, _FIN_WAIT2, _CLOSE_WAIT, _LAST_ACK, _CLOSING = 1, 4, 5, 8, 9, 11
_CONNECTED = {_ESTABLISHED, _FIN_WAIT1, _FIN_WAIT2, _CLOSE_WAIT, _LAST_ACK, _CLOSING}
_CLOSED_BY_THE_CLIENT = {_CLOSE_WAIT, _LAST_ACK, _CLOSING}


class Diagnostics:
    """A way to ask. It is cheap to open, so that nobody needs to keep it.

        with Diagnostics() as diagnostics:
            interface = diagnostics.interface_of(endpoints)
            sight = None if interface is None else diagnostics.look(endpoints, interface)

    Raises:
        OSError: no descriptor is left, or netlink sockets may not be had (EAFNOSUPPORT, EPERM, EPROTONOSUPPORT).
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def interface_of(self, endpoints: Endpoints) -> int | None:
        """Where a connection is to be looked for: 0 for nearly all; the number of an interface if it is bound to one,
        as those from link-local addresses are, and those of a listener with BindToDevice= (systemd.socket(5)).

        Returns:
            None if there is no such connection: it is broken, or closed by both sides; or it is another network
            namespace's (network_namespaces(7)), or this kernel tells nobody of TCP.

        Raises:
            OSError: the kernel does not answer.
        """
        return next((number for number in _interfaces() if self.look(endpoints, number) is not None), None)

    def would_find(self, endpoints: Endpoints, listeners: Container[int]) -> bool:
        """Whether a connection that was not found is broken for sure: in its place, the kernel finds the listener that
        it came from. So it tells of TCP, and of the namespace that the connection was in.

        Args:
            listeners: the inodes of those that it may have come from.

        Raises:
            OSError: the kernel does not answer.
        """
        return any(self._inode(endpoints, number) in listeners for number in _interfaces())

    def look(self, endpoints: Endpoints, interface: int) -> Sight | None:
        """Look at a connection.

        Args:
            endpoints: its own; of a family of TCP.
            interface: where to look for it.

        Returns:
            None if it is not there (any more).

        Raises:
            OSError: the kernel does not answer.
        """
        answer = self._ask(endpoints, interface)
        if answer is None:
            return None
        state, unread, _ = _MESSAGE.unpack_from(answer, _HEADER.size)
        sent, received = _times(answer)
        return Sight(state in _CLOSED_BY_THE_CLIENT, sent, received, unread) if state in _CONNECTED else None

    def inode_of(self, endpoints: Endpoints) -> int | None:
        """The inode of a connection's socket, by which proc_pid_fd(5) shows who has it open.

        Returns:
            None if there is no such connection, or nobody has it open.

        Raises:
            OSError: the kernel does not answer.
        """
        return self._inode(endpoints, 0)

    def _inode(self, endpoints: Endpoints, interface: int) -> int | None:
        answer = self._ask(endpoints, interface)
        return None if answer is None else int(_MESSAGE.unpack_from(answer, _HEADER.size)[2]) or None

    def _ask(self, endpoints: Endpoints, interface: int) -> bytes | None:
        # The kernel answers before send(2) returns.
        self._socket.send(_question(endpoints, interface))
        answer = self._socket.recv(8192, socket.MSG_DONTWAIT)
        if _HEADER.unpack_from(answer)[1] != _NLMSG_ERROR:
            return answer
        error = -_ERROR.unpack_from(answer, _HEADER.size)[0]
        if error == errno.ENOENT:
            return None
        raise OSError(error, os.strerror(error))


def inode_of_connection(endpoints: Endpoints) -> int | None:
    """The inode of a TCP connection's socket; None if there is none, or the system does not tell."""
    if endpoints.family is Family.UNIX:
        return None
    try:
        with Diagnostics() as diagnostics:
            return diagnostics.inode_of(endpoints)
    except OSError:
        return None


def _interfaces() -> Iterator[int]:
    """Where to look: nearly everything is found with the first."""
    yield 0
    yield from (number for number, _ in socket.if_nameindex())


def _question(endpoints: Endpoints, interface: int) -> bytes:
    family = _FAMILIES[endpoints.family]
    body = b"".join(
        (
            _REQUEST.pack(family, socket.IPPROTO_TCP, 1 << (_INET_DIAG_INFO - 1), _ANY_STATE),
            _PORTS.pack(endpoints.local_port, endpoints.remote_port),
            socket.inet_pton(family, endpoints.local_ip).ljust(16, b"\0"),
            socket.inet_pton(family, endpoints.remote_ip).ljust(16, b"\0"),
            _REST_OF_ID.pack(interface, _NO_COOKIE, _NO_COOKIE),
        )
    )
    return _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 0, 0) + body


def _times(answer: bytes) -> tuple[float, float]:
    """Seconds since the last sending and the last receiving."""
    at = _HEADER.size + _MESSAGE.size
    while at + _ATTRIBUTE.size <= len(answer):
        length, kind = _ATTRIBUTE.unpack_from(answer, at)
        if kind == _INET_DIAG_INFO:
            sent, received = _TIMES.unpack_from(answer, at + _ATTRIBUTE.size + _TIMES_AT)
            return sent / 1000, received / 1000
        at += (length + 3) & ~3
    return 0.0, 0.0

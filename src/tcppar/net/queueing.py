"""Clients who wait in a listener's queue, and what has become of them."""

import select
import socket
import struct

from tcppar.net.platform import socket_of, unread

# struct tcp_info (linux/tcp.h): tcpi_state; and of a listener, in tcpi_unacked, how long its queue is.
_STATE_AND_LENGTH = struct.Struct("=B23xI")
# include/net/tcp_states.h
_CLOSED, _CLOSE_WAIT = 7, 8


def clients_waiting(listener: int, *, tcp_info: bool) -> int:
    """How many clients are in a listener's queue; 1 for some, where the system does not tell.

    Args:
        tcp_info: whether the system tells (TCP_INFO, tcp(7)).

    Raises:
        OSError: no descriptor is left.
    """
    with socket_of(listener) as duplicate:
        if tcp_info and duplicate.family != socket.AF_UNIX:
            return _info(duplicate)[1]
        poll = select.poll()
        poll.register(duplicate, select.POLLIN)
        return len(poll.poll(0))


def has_given_up(connection: int) -> bool:
    """Whether the client of a TCP connection that was just accepted has closed it without a word: has reset it, or has
    sent nothing but its end. (Who has sent something may only have closed its side, and wait for the answer.)

    Raises:
        OSError: no descriptor is left.
    """
    with socket_of(connection) as duplicate:
        state, _ = _info(duplicate)
        return state == _CLOSED or (state == _CLOSE_WAIT and not unread(connection))


def _info(duplicate: socket.socket) -> tuple[int, int]:
    state, length = _STATE_AND_LENGTH.unpack(duplicate.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 28))
    return state, length

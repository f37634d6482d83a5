"""What the kernel says of a socket that we have open: clients who wait in a listener's queue, what has become of them,
and whether anything has happened on a connection (TCP_INFO, tcp(7)).
"""

import select
import socket
import struct

from tcppar.net.platform import socket_of, unread

# struct tcp_info (linux/tcp.h): tcpi_state; and of a listener, in tcpi_unacked, how long its queue is.
_STATE_AND_LENGTH = struct.Struct("=B23xI")
# Of a connection: tcpi_state, tcpi_bytes_received, tcpi_notsent_bytes, tcpi_data_segs_out (all there since Linux 4.6).
_USE = struct.Struct("=B127xQ8xI8xI")
# include/net/tcp_states.h
_FIN_WAIT1, _FIN_WAIT2, _CLOSED, _CLOSE_WAIT, _LAST_ACK, _CLOSING = 4, 5, 7, 8, 9, 11
_SHUT_HERE = {_FIN_WAIT1, _FIN_WAIT2, _LAST_ACK, _CLOSING}


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


def was_used(connection: int, *, tcp_info: bool) -> bool:
    """Whether anybody has read from a connection, sent on it, or shut it down. The end of the client's stream counts as
    a byte received, so that one byte alone shows no reading. False where the system does not tell.

    Args:
        tcp_info: whether the system tells (TCP_INFO, tcp(7)).

    Raises:
        OSError: no descriptor is left.
    """
    if not tcp_info:
        return False
    with socket_of(connection) as duplicate:
        if duplicate.family == socket.AF_UNIX:
            return False
        info = duplicate.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _USE.size)
        if len(info) < _USE.size:
            return False
        state, received, unsent, sent = _USE.unpack(info)
        return state in _SHUT_HERE or sent + unsent > 0 or received - unread(connection) > 1


def _info(duplicate: socket.socket) -> tuple[int, int]:
    state, length = _STATE_AND_LENGTH.unpack(duplicate.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 28))
    return state, length

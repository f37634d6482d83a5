"""SHUTDOWN and CLOSE."""

import socket

from tcppar.tcpx import sockets, status
from tcppar.tcpx.result import NO_SOCKET, Request, Result
from tcppar.tcpx.symbols import Half

_BOTH = Half.TCPXFLG_SHUTRD | Half.TCPXFLG_SHUTWR
_HOW = {
    Half.TCPXFLG_SHUTRD: socket.SHUT_RD,
    Half.TCPXFLG_SHUTWR: socket.SHUT_WR,
    _BOTH: socket.SHUT_RDWR,
}


def shut_down(request: Request) -> Result:
    """End one direction or both (0 is both), for all processes that have the socket, and tell the peer.

    Raises:
        OSError: as shutdown(2).
    """
    halves = Half(request.flags & _BOTH) or _BOTH
    if halves & Half.TCPXFLG_SHUTWR:
        sockets.end_tls(request.sockport)
    sockets.View(request.sockport).shutdown(_HOW[halves])
    return Result(0, sockport=request.sockport, hostname=request.hostname)


def close(request: Request) -> Result:
    """Close our descriptor of the socket. The peer sees nothing of it while another process has one.

    Raises:
        OSError: EBADF, ENOTSOCK.
    """
    if request.sockport == NO_SOCKET:
        return Result(status.CLOSED_BEFORE, hostname=request.hostname)
    sockets.close(request.sockport)
    return Result(0, hostname=request.hostname)

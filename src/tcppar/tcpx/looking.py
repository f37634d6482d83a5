"""CHECK and CHKQTY: what a call would find, without making it."""

from __future__ import annotations

import errno

from tcppar.tcpx import sockets, status
from tcppar.tcpx.reopening import queues_of
from tcppar.tcpx.result import Request, Result
from tcppar.tcpx.symbols import EndOfStream
from tcppar.tcpx.waiting import READABLE, Wait, WouldBlock, poll

YES, NO = 1, 0


def check(request: Request) -> Result:
    """Within the timer (0: now): is a client waiting, is there data, or is the connection made?

    Raises:
        OSError: EPIPE: the peer has closed and nothing is left to read; as connect(2), recv(2); EINTR.
    """
    wait = Wait(request.timer, request.interrupted)
    try:
        wait.until_done(lambda: look(request.sockport, request.eof))
    except WouldBlock:
        return Result(NO, sockport=request.sockport, hostname=request.hostname)
    return Result(YES, sockport=request.sockport, hostname=request.hostname)


def look(sockport: int, eof: EndOfStream) -> None:
    """Return if CHECK says yes; it says no if this would block.

    Raises:
        WouldBlock, OSError: as `check`.
    """
    view = sockets.View(sockport)
    if view.listens:
        waits_for = dict.fromkeys(queues_of(sockport), READABLE)
        if not poll(waits_for):
            raise WouldBlock(waits_for)
        return
    if _is_being_made(sockport):
        sockets.stream_of(sockport)
    elif not _has_data(sockport) and eof is EndOfStream.STATUS:
        raise status.error(errno.EPIPE)


def _is_being_made(sockport: int) -> bool:
    entry = sockets.known(sockport)
    return entry is not None and entry.connecting is not None


def _has_data(sockport: int) -> bool:
    try:
        return sockets.stream_of(sockport).has_data()
    except WouldBlock:
        # Another process may have begun to connect it: a socket without a peer that is not told so (ENOTCONN).
        if not sockets.View(sockport).is_connected:
            sockets.adopt_half_open(sockport)
        raise


def check_quantity(request: Request) -> Result:
    """How many bytes can be read now; with TLS, of those that are encrypted still, the next some 64 KiB at least.

    Raises:
        OSError: as `check`.
    """
    try:
        number = sockets.stream_of(request.sockport).quantity()
    except WouldBlock:
        number = 0
    else:
        if number == 0 and request.eof is EndOfStream.STATUS:
            raise status.error(errno.EPIPE)
    return Result(number, sockport=request.sockport, hostname=request.hostname)

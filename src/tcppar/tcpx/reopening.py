"""A listener in the place of another, without a loss.

To close a listening socket and to open it again, as the published workaround does, refuses whoever is in its queue and
whoever comes in between. Here the new one is bound beside the old one and gets all new clients (net/steering.py). The
old one is kept until its queue is empty, and is accepted from first.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
import time

from tcppar.tcpx import sockets, status
from tcppar.tcpx.predecessor import Predecessor
from tcppar.tcpx.result import BACKLOG, Number, Result, as_whole
from tcppar.tcpx.symbols import Interrupted

_QUIET = 120.0
"""For so many seconds after its queue was full such clients may come: a handshake may take about 63 s (tcp(7)), and the
kernel takes a SYN cookie back for 120 s, but only at the listener that gave it."""
_LONGEST_QUEUE = 4096  # the system cuts it to its own maximum

# asm-generic/socket.h and linux/sock_diag.h; the socket module does not name them.
_SO_MEMINFO = 55
_MEMORY = struct.Struct("9I")
_DROPS = 8


def reopen(listener: Number, backlog: int = BACKLOG) -> Result:
    """Put a new listening socket in the place of this one: the reset of TCPPAR, but nobody is lost.

    It has the old one's number, port and address. Who is in the old one's queue is accepted first, by ACCEPT on the
    same number. While that lasts, 0.2 s at least, another reset does nothing.

    If the old one's queue was full of late, clients who are bound to it may be on their way. Then its queue is made
    longer, and it stays; a reset two minutes later finds it in order.

    Args:
        listener: the number of a listening TCP socket, alone on its port.
        backlog: as in `tcpx`.

    Returns:
        its status is 0, or below 0: nothing has changed then. Where the system has no means for it (it is Linux that
        has), it is the negative of EOPNOTSUPP; what is left there is CLOSE and ACCEPT.
    """
    sockport = as_whole(listener, "listener")
    try:
        _reopen(sockport, backlog)
    except OSError as error:
        return Result(status.of(error, Interrupted.RETRY), sockport=sockport)
    return Result(0, sockport=sockport)


def _reopen(listener: int, backlog: int) -> None:
    if not sockets.View(listener).listens:
        raise status.error(errno.EINVAL)
    if sys.platform != "linux":
        raise status.error(errno.EOPNOTSUPP)
    if predecessor_of(listener) is not None:
        return
    if _was_full_of_late(listener):
        sockets.View(listener).listen(_LONGEST_QUEUE)
    else:
        _replace(listener, backlog)


def _was_full_of_late(listener: int) -> bool:
    """Whether the listener has turned clients away since it was opened, or last asked about, or is not quiet yet."""
    memory = sockets.View(listener).getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMORY.size)
    drops = _MEMORY.unpack(memory)[_DROPS]
    entry = sockets.remember(listener)
    if drops != entry.drops:
        entry.drops, entry.quiet_from = drops, time.monotonic() + _QUIET
    return time.monotonic() < entry.quiet_from


def _replace(listener: int, backlog: int) -> None:
    from tcppar.net import opening, steering  # for those who reopen

    old = socket.socket(fileno=os.dup(listener))  # close-on-exec, as every duplicate of Python's
    try:
        new = steering.bind_beside(old, opening.ListenerOptions(backlog))
    except OSError:
        old.close()
        raise
    sockets.replace(listener, new.detach())
    entry = sockets.remember(listener)
    entry.drops, entry.quiet_from = 0, 0.0
    entry.predecessor = Predecessor(old.detach())


def predecessor_of(listener: int) -> Predecessor | None:
    """What was there before this listener, while it is needed."""
    entry = sockets.known(listener)
    if entry is None or entry.predecessor is None:
        return None
    if entry.predecessor.is_over:
        _let_go(entry.predecessor, listener)
        entry.predecessor = None
    return entry.predecessor


def _let_go(predecessor: Predecessor, listener: int) -> None:
    from tcppar.net import steering

    predecessor.close()
    with socket.socket(fileno=os.dup(listener)) as successor:
        steering.exclude_others(successor)  # nobody else may be bound to the port any more


def queues_of(listener: int) -> list[int]:
    """The descriptors to accept from, in their order."""
    predecessor = predecessor_of(listener)
    return [listener] if predecessor is None else [predecessor.queue, listener]

"""ACCEPT: as a server, listen on a port, accept a client, or both."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tcppar.tcpx import securing, sockets, status
from tcppar.tcpx.reopening import queues_of
from tcppar.tcpx.result import HIGHEST_PORT, Request, Result
from tcppar.tcpx.symbols import Flag
from tcppar.tcpx.waiting import READABLE, Wait, WouldBlock

if TYPE_CHECKING:
    from tcppar.tcpx.sockets import StartTls

_GREETING_SIZE = 32

# Listeners of plain ACCEPTs that came back without a client, at their time limit or by a signal. The caller knows the
# port only; the next call for it goes on with the listener, and so with whoever is in its queue by now.
_left_open: dict[tuple[str, int], int] = {}


def accept(request: Request) -> Result:
    """Do what the flags say: only listen (LISTEN), only accept (ASYNC), or both.

    Raises:
        OSError: as bind(2), listen(2), accept(2); ETIMEDOUT at the time limit; EOPNOTSUPP for TLS without a context.
    """
    if request.flags & Flag.TCPXFLG_LISTEN:
        return _listen(request)
    if request.flags & Flag.TCPXFLG_ASYNC:
        result = _accept_from(request.sockport, request)
        if not request.flags & Flag.TCPXFLG_KEEPLISTEN:
            sockets.close(request.sockport)
        return result
    listener = _listener(request)
    _left_open[request.bind, request.sockport] = listener
    result = _accept_from(listener, request)
    sockets.close(_left_open.pop((request.bind, request.sockport)))
    return result


def _listen(request: Request) -> Result:
    try:
        return Result(0, sockport=_listener(request))
    except OSError as error:
        return Result(status.of(error, request.interrupted))


def _listener(request: Request) -> int:
    """A listener on the port: the one that was left open there, or else a new one."""
    left = _left_open.pop((request.bind, request.sockport), None)
    if left is not None and _listens(left):
        return left
    if not 0 <= request.sockport <= HIGHEST_PORT:
        raise status.error(errno.EINVAL)
    from tcppar.net import opening  # a child never needs it

    options = opening.ListenerOptions(request.backlog)
    return opening.bind_tcp(request.bind, request.sockport, options).detach()


def _listens(sockport: int) -> bool:
    try:
        return sockets.View(sockport).listens
    except OSError:
        return False  # somebody has closed it


def _accept_from(listener: int, request: Request) -> Result:
    if not sockets.View(listener).listens:
        raise status.error(errno.EINVAL)
    start_tls = securing.as_server(request) if securing.has_asked(request) else None
    wait = Wait(request.timer or None, request.interrupted)
    try:
        connection, peer = wait.until_done(lambda: _accept_one(listener))
        with sockets.closed_on_failure(connection):
            os.set_blocking(connection, bool(request.flags & Flag.TCPXFLG_BLOCK))
            sent = _greet(connection, request) if start_tls is None else _secure(connection, start_tls, request, wait)
    except WouldBlock:
        raise status.error(errno.ETIMEDOUT) from None
    return Result(sent, sockport=connection, hostname=peer[0] if isinstance(peer, tuple) else "")


def _accept_one(listener: int) -> tuple[int, Any]:
    """The descriptor and the address of a client who is in the queue."""
    queues = queues_of(listener)
    for queue in queues:
        os.set_blocking(queue, False)  # another process may be faster, after we were told of a client
        try:
            return sockets.View(queue)._accept()  # type: ignore[attr-defined, no-any-return]
        except BlockingIOError:
            continue
    raise WouldBlock(dict.fromkeys(queues, READABLE))


def _greet(connection: int, request: Request) -> int:
    """Send the client the beginning of the buffer; how many bytes."""
    greeting = request.buffer[:_GREETING_SIZE]
    return sockets.PlainStream(connection).send(greeting) if greeting else 0


def _secure(connection: int, start_tls: StartTls, request: Request, wait: Wait) -> int:
    """Let it have TLS, now or later. A handshake that a signal interrupts is gone on with by the next call."""
    sockets.remember(connection).start_tls = start_tls
    if not request.flags & Flag.TCPXFLG_STARTTLS:
        securing.begin(connection)
        with suppress(InterruptedError):
            wait.until_done(lambda: sockets.stream_of(connection))
    return 0

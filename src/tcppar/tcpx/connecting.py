"""CONNECT: as a client, to a server's name and port."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

from tcppar.tcpx import securing, sockets, status
from tcppar.tcpx.result import HIGHEST_PORT, Request, Result
from tcppar.tcpx.symbols import Flag
from tcppar.tcpx.transfer import read
from tcppar.tcpx.waiting import Wait, WouldBlock

_GREETING_LIMIT = 5000.0
"""For how many milliseconds opcode 10 waits for the server's greeting, if the timer does not say."""


def connect(request: Request) -> Result:
    """Connect, within the timer (0: no limit of ours), to the first of the name's addresses that answers.

    With ASYNC the timer is for how long this call waits: the attempt goes on after it, and CHECK tells how it ends.
    A signal that ends the call ends no attempt either: the result then has the half-open socket, too.
    """
    try:
        return _connect(request)
    except OSError as error:
        return Result(status.of(error, request.interrupted), hostname=request.hostname)


def connect_and_be_greeted(request: Request) -> Result:
    """Opcode 10: connect, then read the server's greeting; the status is its length."""
    connected = connect(request._replace(flags=request.flags & ~Flag.TCPXFLG_ASYNC))
    if connected.status < 0:
        return connected
    limit = request.timer or _GREETING_LIMIT
    greeting = request._replace(sockport=connected.sockport, flags=0, timer=limit)
    try:
        return read(greeting)
    except OSError as error:
        return connected._replace(status=status.of(error, request.interrupted))


def _connect(request: Request) -> Result:
    is_async = bool(request.flags & Flag.TCPXFLG_ASYNC)
    wait = Wait(request.timer if is_async else request.timer or None, request.interrupted)
    sockport = _begin(request)
    result = Result(int(is_async), sockport=sockport, hostname=request.hostname)
    with sockets.closed_on_failure(sockport):
        try:
            wait.until_done(lambda: sockets.stream_of(sockport))
        except WouldBlock:
            if is_async:
                return result._replace(status=0)
            raise status.error(errno.ETIMEDOUT) from None
        except InterruptedError as error:
            return result._replace(status=status.of(error, request.interrupted))
    return result


def _begin(request: Request) -> int:
    """Begin to connect; the socket's number."""
    if not request.hostname or not 0 < request.sockport <= HIGHEST_PORT:
        raise status.error(errno.EINVAL)
    start_tls = securing.as_client(request) if securing.has_asked(request) else None
    attempt = Attempt(_addresses(request), request.flags)
    entry = sockets.remember(attempt.sockport)
    entry.connecting = attempt.step
    entry.start_tls = start_tls
    return attempt.sockport


def _addresses(request: Request) -> list[Any]:
    try:
        return socket.getaddrinfo(request.hostname, request.sockport, type=socket.SOCK_STREAM)
    except ValueError as error:  # no name at all by the rules of domain names, or a NUL in it
        raise status.error(errno.EHOSTUNREACH, f"{request.hostname!r} is not a host name") from error


class Attempt:
    """A connection that is being made, under one number, to one address after the other.

    Args:
        addresses: what getaddrinfo(3) has found, at least one.

    Raises:
        OSError: none of them can even be tried; why the last one cannot.
    """

    def __init__(self, addresses: list[Any], flags: int) -> None:
        self._addresses = addresses
        self._flags = flags
        self._is_over = False
        self._failure = status.error(errno.EHOSTUNREACH)
        self.sockport = self._begin_next()

    def _begin_next(self) -> int:
        while self._addresses:
            family, kind, protocol, _, address = self._addresses.pop(0)
            try:
                return _begin_to(address, socket.socket(family, kind, protocol))
            except OSError as failure:
                self._failure = failure
        self._is_over = True
        raise self._failure

    def step(self) -> None:
        """Go on.

        Raises:
            WouldBlock: nobody has answered yet.
            OSError: no address is left; how the last one failed. It is raised again by every further step.
        """
        while not self._is_connected():
            sockets.replace(self.sockport, self._begin_next())
        self._finish()

    def _is_connected(self) -> bool:
        """Whether the address in turn has answered; False if it has failed."""
        if self._is_over:
            raise self._failure
        try:
            sockets.View(self.sockport).finish_connecting()
        except WouldBlock:
            raise
        except OSError as failure:
            self._failure = failure
            return False
        return True

    def _finish(self) -> None:
        os.set_blocking(self.sockport, bool(self._flags & Flag.TCPXFLG_BLOCK))
        entry = sockets.remember(self.sockport)
        entry.connecting = None
        if entry.start_tls is not None and not self._flags & Flag.TCPXFLG_STARTTLS:
            securing.begin(self.sockport)
            sockets.stream_of(self.sockport)


def _begin_to(address: Any, sock: socket.socket) -> int:
    """Begin to connect a socket to an address; its number. If it fails at once, it is closed."""
    sock.setblocking(False)
    number = sock.connect_ex(address)
    if number not in (0, errno.EINPROGRESS):
        sock.close()
        raise status.error(number)
    return sock.detach()

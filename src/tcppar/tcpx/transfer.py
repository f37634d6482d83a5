"""READ and WRITE."""

from __future__ import annotations

import errno
import os

from tcppar.tcpx import sockets, status
from tcppar.tcpx.result import NO_SOCKET, Request, Result
from tcppar.tcpx.symbols import COUNT_MASK
from tcppar.tcpx.waiting import Wait

_SIZE = 8192
"""How much READ takes if nobody says it: the size that the manual calls safe everywhere."""


def _count(request: Request) -> int:
    """The number of bytes in the flags. Where TLS is at hand, its bits stand in there too."""
    entry = sockets.known(request.sockport)
    return request.flags & COUNT_MASK if entry is not None and entry.has_tls else request.flags


def _patience(request: Request) -> tuple[bool, Wait]:
    """Whether the call is to be complete, and its wait: by the timer if there is one, else by the socket's mode."""
    if request.timer:
        return True, Wait(request.timer, request.interrupted)
    blocks = os.get_blocking(request.sockport)
    return blocks, Wait(None if blocks else 0, request.interrupted)


def read(request: Request) -> Result:
    """Receive up to `flags` bytes, or with 0 what is there, at most the buffer's size.

    With a timer, or on a blocking socket, it waits for all `flags` bytes; with 0 for the first. What has come counts,
    also if the time is over, a signal comes or the stream ends. The status is 0 at the end of the stream.

    Raises:
        OSError: EWOULDBLOCK: nothing came; or as recv(2).
    """
    into = None if request.buffer.readonly else request.buffer
    count = _count(request)
    size = (request.size or count or _SIZE) if into is None else len(into)
    if not 0 <= count <= size or size < 1:
        raise status.error(errno.EINVAL)
    received = _receive(request, count, size)
    if into is not None:
        into[: len(received)] = received
    return Result(len(received), received, request.sockport, request.hostname)


def _receive(request: Request, count: int, size: int) -> bytes:
    complete, wait = _patience(request)
    received = bytearray()
    wanted = count or size

    def receive_some() -> bool:
        """Receive once; whether that is enough."""
        piece = sockets.stream_of(request.sockport).receive(wanted - len(received))
        received.extend(piece)
        return not piece or len(received) == wanted or not (count and complete)

    try:
        while not wait.until_done(receive_some):
            pass
    except OSError:
        if not received:
            raise
    return bytes(received)


def write(request: Request) -> Result:
    """Send the first `flags` bytes of the buffer, or with 0 all of it.

    With a timer, or on a blocking socket, it waits until all are sent. The status is how many were. A socket that
    failed is closed, unless something was sent before it failed: then the next call finds out.

    Raises:
        OSError: EINVAL: the buffer has not so many; EWOULDBLOCK: nothing could be sent.
    """
    count = _count(request)
    if not 0 <= count <= len(request.buffer):
        raise status.error(errno.EINVAL)
    sent, failure = _send(request, request.buffer[: count or None])
    result = Result(sent, sockport=request.sockport, hostname=request.hostname)
    if failure is None or sent:
        return result
    if isinstance(failure, BlockingIOError | InterruptedError) or not _is_connection(request.sockport):
        raise failure
    sockets.close(request.sockport)
    return result._replace(status=status.of(failure, request.interrupted), sockport=NO_SOCKET)


def _send(request: Request, data: memoryview) -> tuple[int, OSError | None]:
    """How much was sent, and why not all of it."""
    sent = 0

    def send_some() -> bool:
        """Send once; whether that was all."""
        nonlocal sent
        sent += sockets.stream_of(request.sockport).send(data[sent:])
        return sent == len(data)

    try:
        _, wait = _patience(request)
        while not wait.until_done(send_some):
            pass
        wait.until_done(lambda: sockets.stream_of(request.sockport).flush())
    except OSError as failure:
        return sent, failure
    return sent, None


def _is_connection(sockport: int) -> bool:
    """Whether it is one, or was: nothing else is closed because it cannot be written to."""
    try:
        return not sockets.View(sockport).listens
    except OSError:
        return False

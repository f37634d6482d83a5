"""XCALL TCPX."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from tcppar.tcpx import accepting, closing, connecting, looking, securing, status, transfer
from tcppar.tcpx.result import BACKLOG, NO_SOCKET, Number, Request, Result, as_timer, as_whole
from tcppar.tcpx.sockary import ALL, SockArray, run_in_array
from tcppar.tcpx.symbols import EndOfStream, Interrupted, Opcode

if TYPE_CHECKING:
    import os
    import ssl
    from collections.abc import Callable


def _tell_error(request: Request) -> Result:
    """ERRMSG: the text of a status, as UTF-8, in the buffer. The status stays as it is."""
    text = status.text(request.status).encode()
    return Result(request.status, text, request.sockport, request.hostname)


_OPERATIONS: dict[int, Callable[[Request], Result]] = {
    Opcode.TCPOP_ACCEPT: accepting.accept,
    Opcode.TCPOP_WRITE: transfer.write,
    Opcode.TCPOP_READ: transfer.read,
    Opcode.TCPOP_SHUTDOWN: closing.shut_down,
    Opcode.TCPOP_CLOSE: closing.close,
    Opcode.TCPOP_CHECK: looking.check,
    Opcode.TCPOP_CHKQTY: looking.check_quantity,
    Opcode.TCPOP_CONNECT: connecting.connect,
    Opcode.TCPOP_CONNECT_GREETING: connecting.connect_and_be_greeted,
    Opcode.TCPOP_ERRMSG: _tell_error,
    Opcode.TCPOP_STARTTLS: securing.start_tls,
}


def tcpx(
    opcode: Number,
    *,
    buffer: bytes | bytearray | memoryview | str = b"",
    sockport: Number = NO_SOCKET,
    flags: Number = 0,
    timer: Number = 0,
    hostname: str = "",
    sockary: SockArray | None = None,
    sockidx: Number = ALL,
    interrupted: str | Interrupted = Interrupted.RETRY,
    size: Number | None = None,
    status: Number = 0,
    backlog: Number = BACKLOG,
    bind: str = "0.0.0.0",
    tls: ssl.SSLContext | str | os.PathLike[str] | None = None,
    eof: str | EndOfStream = EndOfStream.STATUS,
) -> Result:
    """XCALL TCPX: one call for all that a program does with TCP (MicroSabio's reference, "TCPX").

    What goes wrong is a status, never an exception. Only a signal handler's exception passes, KeyboardInterrupt too.

    Args:
        opcode: a TCPOP_ number.
        buffer: what is to be sent (a str as UTF-8), or where what is received is put too (bytearray, writable
            memoryview). ACCEPT sends the first 32 bytes to the client. CONNECT with TLS takes it as a list of ciphers.
        sockport: the socket; for CONNECT, for ACCEPT without ASYNC and with LISTEN, the port.
        flags: TCPXFLG_ bits; for READ and WRITE a number of bytes.
        timer: milliseconds; 0 is no limit for ACCEPT, CONNECT and STARTTLS, no wait for CHECK and CONNECT with ASYNC,
            and as the socket's mode says for READ and WRITE.
        hostname: the server's name or address, for CONNECT, and the name that its certificate is verified for.
        sockary: a set of sockets. Then `sockidx`, in place of `sockport`, says which, and the result's sockport is an
            index too.
        sockidx: 1 and up; 0: all of them.
        interrupted: what a signal does to a call that waits: "retry", "errno" or "raw" (`Interrupted`).

    These A-Shell has not, or gets from the variables themselves:

    Args:
        size: how much READ takes at most, where the buffer does not say; 8192 bytes, or so many as `flags` asks for.
        status: what ERRMSG is to explain.
        backlog: for how many clients a listener's queue has room.
        bind: the address that ACCEPT listens on, numeric, of either family; the default is all IPv4 addresses.
        tls: for a client the file (PEM) of the authorities to trust, or a context; for a server its context.
        eof: what CHECK and CHKQTY tell of a closed connection: "status" (-32) or "readable" (`EndOfStream`).

    Raises:
        TypeError: an argument is of a wrong type.
        ValueError, OverflowError: a word is none of those that are meant, or a number is not finite.
    """
    request = Request(
        opcode=as_whole(opcode, "opcode"),
        buffer=memoryview(buffer.encode() if isinstance(buffer, str) else buffer).cast("B"),
        sockport=as_whole(sockport, "sockport"),
        flags=as_whole(flags, "flags"),
        timer=as_timer(timer),
        hostname=hostname,
        interrupted=Interrupted(interrupted),
        size=None if size is None else as_whole(size, "size"),
        status=as_whole(status, "status"),
        backlog=as_whole(backlog, "backlog"),
        bind=bind,
        tls=tls,
        eof=EndOfStream(eof),
    )
    if sockary is not None:
        if not isinstance(sockary, SockArray):
            raise TypeError(f"sockary must be a SockArray, not {type(sockary).__name__}")
        return run_in_array(sockary, as_whole(sockidx, "sockidx"), request, _run)
    return _run(request)


def _run(request: Request) -> Result:
    try:
        if request.opcode not in _OPERATIONS:
            raise status.error(errno.EINVAL)
        return _OPERATIONS[request.opcode](request)
    except OSError as error:
        return Result(status.of(error, request.interrupted), sockport=request.sockport, hostname=request.hostname)

"""What a call gives back, and what it was asked for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple, SupportsInt

if TYPE_CHECKING:
    import os
    import ssl

    from tcppar.tcpx.symbols import EndOfStream, Interrupted

Number = SupportsInt
"""Any numeric type, as in A-Shell: an F,6 variable's value is a float here."""

NO_SOCKET = -1
"""The sockport of no socket."""
HIGHEST_PORT = 65535
BACKLOG = 5
"""How many clients wait in a listener's queue if nothing else is said: what TCPSRV has had since A-Shell 758."""


class Result(NamedTuple):
    """The variables of an XCALL TCPX after it, as far as it changes them.

    Attributes:
        status: below 0 the negative errno; above 0 a number of bytes, or CHECK's "yes"; otherwise 0.
        buffer: what was received, or ERRMSG's text; else empty.
        sockport: the socket's number, which is the descriptor; -1 if there is none any more. With a sockary the index.
        hostname: the client's numeric address after ACCEPT, else as it was given.
    """

    status: int
    buffer: bytes = b""
    sockport: int = NO_SOCKET
    hostname: str = ""


class Request(NamedTuple):
    """The arguments of a call, in their types (call.py tells what they mean)."""

    opcode: int
    buffer: memoryview
    sockport: int
    flags: int
    timer: float
    hostname: str
    interrupted: Interrupted
    size: int | None
    status: int
    backlog: int
    bind: str
    tls: ssl.SSLContext | str | os.PathLike[str] | None
    eof: EndOfStream


def as_whole(value: Number, name: str) -> int:
    """A number of any kind as an int, cut off as BASIC does.

    Raises:
        TypeError: it is no number; a text is none.
        ValueError, OverflowError: it is no finite one.
    """
    if isinstance(value, str | bytes | bytearray) or not hasattr(value, "__int__"):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    return int(value)


def as_timer(value: Number) -> float:
    """Milliseconds; what is negative, and what is no number at all (NaN), counts as 0.

    Raises:
        TypeError: as `as_whole`.
    """
    if isinstance(value, float):
        return 0.0 if math.isnan(value) else max(value, 0.0)
    return float(max(as_whole(value, "timer"), 0))

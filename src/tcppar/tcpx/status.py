"""From an error to a status, and from a status to the text that ERRMSG gives.

The rule is TCPX's own ("Status (TCPX)" in MicroSabio's reference): a status below 0 is the negative of errno. A number
cannot tell why a certificate was refused or a name not found; so the text of the last failure is kept for each number,
in each thread, and ERRMSG gives that.
"""

import errno
import os
import socket
import threading

from tcppar.tcpx.symbols import Interrupted

CLOSED_BEFORE = -1
"""CLOSE of a socket that was closed before."""
INTERRUPTED_RAW = -1
"""What select(2) returns when a signal interrupts it; errno alone would tell the reason."""


class _Reasons(threading.local):
    def __init__(self) -> None:
        self.texts: dict[int, str] = {}


_reasons = _Reasons()


def error(number: int, text: str = "") -> OSError:
    """The error of this errno, with the system's text or a better one."""
    return OSError(number, text or os.strerror(number))


def of(failure: OSError, interrupted: Interrupted) -> int:
    """The status of a failed call. Its text is kept for `text`."""
    if isinstance(failure, InterruptedError) and interrupted is Interrupted.RAW:
        _reasons.texts.pop(INTERRUPTED_RAW, None)
        return INTERRUPTED_RAW
    # The resolver has numbers of its own, which are no errno's.
    number = errno.EHOSTUNREACH if isinstance(failure, socket.gaierror) else failure.errno or errno.EIO
    _reasons.texts[-number] = failure.strerror or os.strerror(number)
    return -number


def text(status: int) -> str:
    """The system's text for a status, of either sign, or that of this thread's last failure with it."""
    number = abs(status)
    if reason := _reasons.texts.get(-number):
        return reason
    return os.strerror(number) if number in errno.errorcode or number == 0 else f"error {number}"

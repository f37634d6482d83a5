"""Exceptions that users meet, and the exit codes they end with."""

import errno
import os
import traceback
from collections.abc import Sequence
from datetime import date, time
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of the command, as UCSPI-TCP's tools use them (https://cr.yp.to/ucspi-tcp/tcpserver.html)."""

    OK = 0
    USAGE = 100
    """The command line or the configuration is wrong: a person has to change it."""
    SYSTEM = 111
    """The system refused something: the port is taken, a right is missing, memory is short."""


class TcpparError(Exception):
    """Base of every error that tcppar reports to its user; its text is a whole sentence for a person."""

    exit_code = ExitCode.SYSTEM


class ConfigurationError(TcpparError):
    """Settings that cannot work.

    Attributes:
        mistakes: every mistake found, each saying where it stands, what was read and what was expected.
    """

    exit_code = ExitCode.USAGE

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = tuple(mistakes)


class SystemRefused(TcpparError):
    """The operating system refused something that the server cannot start without."""


LONGEST_SHOWN = 500
"""Of a text in a message, in characters."""


def shown(value: object) -> str:
    """A value as mistakes show it: as it stands in a file. Some cannot be shown: numbers of thousands of digits, tables
    in tables in tables.
    """
    try:
        text = _as_in_a_file(value)
    except (ValueError, RecursionError):
        return "what is there"
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def _as_in_a_file(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_as_in_a_file, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key} = {_as_in_a_file(entry)}' for key, entry in value.items())}}}"
    if isinstance(value, str) and any("\udc80" <= letter <= "\udcff" for letter in value):
        return repr(value.encode(errors="surrogateescape"))[1:]  # no UTF-8: the bytes, as a shell would have them
    return repr(value)


_LIMITS = {
    errno.EFBIG: "the largest size of a file (ulimit -f)",
    errno.EMFILE: "open files (ulimit -n)",
    errno.ENOMEM: "memory (ulimit -v, or the container's)",
}
"""What limits of a process the system's errors may come from (getrlimit(2))."""


def as_refusal(error: TcpparError | OSError | MemoryError) -> TcpparError:
    """An error as it is told to the user at the edge of a process: of a shortage that nobody foresaw at that place,
    what the system said and where.
    """
    if isinstance(error, TcpparError):
        return error
    what, hint = "out of memory", f"; see the limit for {_LIMITS[errno.ENOMEM]}"
    if isinstance(error, OSError):
        number = error.errno or 0
        what = f"{errno.errorcode.get(number, number)} ({os.strerror(number)})"
        hint = f"; see the limit for {_LIMITS[number]}" if number in _LIMITS else ""
    *_, place = traceback.extract_tb(error.__traceback__)
    return SystemRefused(
        f"the system refused what was needed: {what}, at {os.path.basename(place.filename)}:{place.lineno}{hint}"
    )

"""The life of a process that was forked for a Python handler: what it begins with, its words in the log, its end.

What it executes before the handler it pays for page by page: every object that it looks at is counted, and so written
to, and so copied.
"""

from __future__ import annotations

import _io
import os
import sys

from tcppar.child.own_path import OwnPath, own

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, NoReturn

SUCCEEDED, FAILED, CANNOT_BEGIN = 0, 1, 111
_NUMPY_RANDOM = "numpy.random"

Limits = tuple[tuple[int, tuple[int, int]], ...]


def limits(rlimits: Iterable[tuple[str, int, int]]) -> Limits:
    """What setrlimit(2) is called with, from the names, soft and hard limits of a plan."""
    if not rlimits:
        return ()
    resource = own("resource")
    return tuple((getattr(resource, f"RLIMIT_{name.upper()}"), (soft, hard)) for name, soft, hard in rlimits)


def live(life: Callable[..., int], given: tuple[Any, ...], target: str, limits: Limits) -> NoReturn:
    """Live, and end with the code that `life` returns, without a word to what this process was forked from.

    Args:
        given: what `life` is called with.
        target: what the configuration calls the handler.
        limits: from here on.
    """
    code = CANNOT_BEGIN
    try:
        set_limits(limits)
        if _NUMPY_RANDOM in sys.modules:
            # The standard library's random sees to a fork itself, and logging and OpenSSL do.
            sys.modules[_NUMPY_RANDOM].seed()
        code = life(*given)
    except BaseException:  # noqa: BLE001 - whatever it is, it must not go on in the spawner's code
        say_traceback(f"a process for handler {target} could not begin")
    finally:
        _flush_and_exit(code)


def set_limits(limits: Limits) -> None:
    """Let them hold for this process.

    Raises:
        OSError, ValueError: one is refused.
    """
    if not limits:
        return
    resource = own("resource")
    for name, both in limits:
        resource.setrlimit(name, both)


def say(what: str) -> None:
    """Write to the log, in one piece, for other processes write to it too."""
    try:
        sys.stderr.write(what.rstrip("\n") + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        pass  # the handler has closed it


def say_traceback(what: str) -> None:
    """Write to the log, with the traceback of the exception that is being handled."""
    error = sys.exception()
    assert error is not None
    say(f"{what}\n{traceback_of(error)}")


def traceback_of(error: BaseException) -> str:
    """As the interpreter itself prints it, in C. The traceback module would have to be imported, with ten others.

    Before Python 3.13 nothing is imported for that but, rarely, what decodes the source. Since then it first looks for
    that module, and does without if it does not find what it expects there.
    """
    printed = _io.StringIO()
    before, sys.stderr = sys.stderr, printed
    try:
        with OwnPath():
            sys.__excepthook__(type(error), error, error.__traceback__)
    finally:
        sys.stderr = before
    return printed.getvalue()


def flush() -> None:
    """Write what the handler printed and has not been written yet."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            pass  # the handler has closed it


def _flush_and_exit(code: int) -> NoReturn:
    try:
        flush()
    finally:
        os._exit(code)

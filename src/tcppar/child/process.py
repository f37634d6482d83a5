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

Limits = tuple[tuple[int, tuple[int, int]], ...]


def limits(rlimits: Iterable[tuple[str, int, int]]) -> Limits:
    """What setrlimit(2) is called with, from the names, soft and hard limits of a plan."""
    if not rlimits:
        return ()
    resource = own("resource")
    return tuple((getattr(resource, f"RLIMIT_{name.upper()}"), (soft, hard)) for name, soft, hard in rlimits)


def live(life: Callable[..., int], given: tuple[Any, ...], target: str, limits: Limits | None) -> NoReturn:
    """Live, and end with the code that `life` returns, without a word to what this process was forked from.

    Args:
        given: what `life` is called with.
        target: what the configuration calls the handler.
        limits: from here on; None if `life` is to call `begin` itself.
    """
    code = CANNOT_BEGIN
    try:
        if limits is not None:
            begin(limits)
        code = life(*given)
        if _last:
            code = _stop(code, target)
    except BaseException:  # noqa: BLE001 - whatever it is, it must not go on in the spawner's code
        say_traceback(f"a process for handler {target} could not start")
    finally:
        flush_and_exit(code)


# Most handlers have nothing of the kind, and each object that is looked at costs each process a page.
_first: list[Callable[[], object]] = []
_last: list[Callable[[], object]] = []


def call_in_each(first: Callable[[], object], last: Callable[[], object] | None = None) -> None:
    """Have functions called in each process: before its first connection, and at its orderly end."""
    _first.append(first)
    if last is not None:
        _last.append(last)


def begin(limits: Limits) -> None:
    """Before the first connection of this process.

    Raises:
        OSError, ValueError: a limit is refused. And whatever a user's function raises.
    """
    if limits:
        _set(limits)
    for call in _first:
        call()


def _stop(code: int, target: str) -> int:
    try:
        for call in _last:
            call()
    except BaseException:  # noqa: BLE001 - it is a user's, and there is nobody else to tell
        say_traceback(f"handler {target}: a function of on_stop failed")
        return code or FAILED
    return code


# A handler that forks, and in whose child the handler returns, does not mean that child to serve connections. Whether
# this process is such a child, the loop in C knows; elsewhere Python has to be told by each process.
_is_copy: Callable[[], bool] = bool


def tell_copies_by(is_copy: Callable[[], bool]) -> None:
    """Whether this process was forked by one of a handler's processes is told by this, from now on."""
    global _is_copy
    _is_copy = is_copy


def leave_if_copy(code: int) -> None:
    """In a process that the handler itself has forked from one of ours: end. The connection, and the line to the
    supervisor, are those of the process that it was forked from."""
    if _is_copy():
        flush_and_exit(code)


def _set(limits: Limits) -> None:
    resource = own("resource")
    for name, both in limits:
        resource.setrlimit(name, both)


def say(what: str) -> None:
    """Write to the log, in one piece, for other processes write to it too.

    A handler can put anything in the place of sys.stderr; None is what Python itself does without.
    """
    for stream in (sys.stderr, sys.__stderr__):
        if stream is not None and _is_written(what.rstrip("\n") + "\n", stream):
            return


def _is_written(what: str, stream: Any) -> bool:
    """Whether it was written; if the handler has closed it, nothing more is to be tried: its descriptor is open as
    something else by now, perhaps."""
    try:
        stream.write(what)
        stream.flush()
    except (OSError, ValueError):
        return True
    except Exception:  # noqa: BLE001 - it is a user's
        return False
    return True


def text_of(value: object) -> str:
    """As `str`, of what is a user's and may do anything."""
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - see above
        return f"(a {type(value).__qualname__} that cannot be shown)"


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
        except (OSError, ValueError, AttributeError):
            pass  # the handler has closed it, or put something else in its place


def flush_and_exit(code: int) -> NoReturn:
    """End at once, and say what was printed."""
    try:
        flush()
    finally:
        os._exit(code)

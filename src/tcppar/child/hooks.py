"""What users want done when a handler's process begins and ends: `tcppar.on_start`, `tcppar.on_stop`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    Hook = TypeVar("Hook", bound=Callable[[], Any])

# Flags of code (inspect, "Code Objects Bit Flags"): generators, coroutines, asynchronous generators.
_RUNS_NOTHING = 0x20 | 0x80 | 0x200

_at_start: list[Callable[[], Any]] = []
_at_stop: list[Callable[[], Any]] = []
_started = False


def on_start(function: Hook) -> Hook:
    """Have a function called in each process of the handler, before its first connection: in mode `pool` when a worker
    begins, in mode `fork` when a connection has come. For what processes cannot share, such as a database connection.

        @tcppar.on_start
        def connect():
            global database
            database = psycopg.connect(URL)

    Decorate functions of modules that the handler's module imports, or its own. They are called in the order in which
    they were decorated. If one raises, its traceback is in the log, and the process ends: the client of a process of
    mode `fork` sees the end of its connection, and another worker is made in place of a worker.

    Args:
        function: without arguments, and no coroutine or generator function.

    Raises:
        TypeError: it is one.
    """
    _at_start.append(_checked(function))
    return function


def on_stop(function: Hook) -> Hook:
    """Have a function called at the orderly end of each process of the handler that has begun: when a worker is let go
    or replaced, or when the connection of a process of mode `fork` has ended. Not if it is killed.

    Args:
        function: as for `on_start`. What it raises is told in the log.
    """
    _at_stop.append(_checked(function))
    return function


def _checked(function: Hook) -> Hook:
    code = getattr(function, "__code__", None)
    if not callable(function) or (code is not None and code.co_flags & _RUNS_NOTHING):
        raise TypeError(f"{function!r}: expected a plain function without arguments, which is called and not awaited")
    return function


def are_there() -> bool:
    """Whether any function was registered."""
    return bool(_at_start or _at_stop)


def start() -> None:
    """This process begins."""
    global _started
    _started = True
    for function in _at_start:
        function()


def stop() -> None:
    """It ends, in order; a spare one perhaps without having begun."""
    if _started:
        for function in _at_stop:
            function()

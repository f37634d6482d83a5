"""What users want done when a handler's process begins and ends: `tcppar.on_start`, `tcppar.on_stop`."""

from __future__ import annotations

from types import AsyncGeneratorType, CoroutineType, GeneratorType

from tcppar.child.calling import ASYNC_GENERATOR, COROUTINE, GENERATOR, Call
from tcppar.child.unrun import unrun

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    Hook = TypeVar("Hook", bound=Callable[[], Any])

_EXPECTED = (
    "expected a function that can be called without arguments, and is neither async def nor a generator function"
)
_UNRUN = (CoroutineType, GeneratorType, AsyncGeneratorType)

_at_start: list[Callable[[], Any]] = []
_at_stop: list[Callable[[], Any]] = []
_started = False
# What a decorator is called with that is written with parentheses.
_NOTHING: Any = object()


def on_start(function: Hook = _NOTHING) -> Hook:
    """Call a function in each process of the handler, before its first connection: in mode `pool` when a worker starts,
    in mode `fork` when a connection has come. Use it for what processes cannot share, such as a database connection.

        @tcppar.on_start
        def connect():
            global database
            database = psycopg.connect(URL)

    Decorate functions of the handler's own module, or of modules that it imports. They are called in the order in which
    they were decorated, outside of any event loop. If one raises, its traceback is in the log, and the process ends:
    the client of a process of mode `fork` sees the end of its connection, and a worker is replaced.

    Args:
        function: takes no arguments, and is neither a coroutine function nor a generator function. To run a coroutine,
            call `asyncio.run` in it.

    Raises:
        TypeError: it is one, or needs arguments.
    """
    _at_start.append(_checked(function, "on_start"))
    return function


def on_stop(function: Hook = _NOTHING) -> Hook:
    """Call a function at the orderly end of each process of the handler that has started: when a worker is removed or
    replaced, or when the connection of a process of mode `fork` has ended. It is not called if the process is killed.

    Args:
        function: as for `on_start`. If it raises, its traceback is in the log.

    Raises:
        TypeError: as for `on_start`.
    """
    _at_stop.append(_checked(function, "on_stop"))
    return function


def _checked(function: Hook, hook: str) -> Hook:
    if function is _NOTHING:
        raise TypeError(f"tcppar.{hook}: write it without parentheses: @tcppar.{hook}")
    if (why := _unfit(function)) is not None:
        raise TypeError(f"tcppar.{hook}: {_name(function)} {why}: {_EXPECTED}")
    return function


def _unfit(function: object) -> str | None:
    if not callable(function):
        return "cannot be called"
    call = Call(function, 0)
    if call.flags & ASYNC_GENERATOR:
        return "is an async generator function, and a call runs nothing of it"
    if call.flags & GENERATOR:
        return "is a generator function (it has a yield), and a call runs nothing of it"
    if call.flags & COROUTINE:
        return "is an async def, and no event loop runs it (asyncio.run in a function would)"
    return None if isinstance(function, type) else call.misfit()


def _name(function: object) -> str:
    return getattr(function, "__qualname__", None) or repr(function)


def are_there() -> bool:
    """Whether any function was registered."""
    return bool(_at_start or _at_stop)


def start() -> None:
    """This process begins."""
    global _started
    _started = True
    for function in _at_start:
        _call(function)


def stop() -> None:
    """It ends, in order; a spare one perhaps without having begun."""
    if _started:
        for function in _at_stop:
            _call(function)


def _call(function: Callable[[], Any]) -> None:
    # Not all that `unrun` knows: signal.signal returns a function, and nobody is to call it.
    result = function()
    if isinstance(result, _UNRUN) and (left := unrun(result)) is not None:
        raise TypeError(f"{_name(function)} has returned {left.partition(':')[0]}: {_EXPECTED}")

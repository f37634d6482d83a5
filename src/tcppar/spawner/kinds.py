"""Which kind of handler something is, seen without calling it; and what could be called, and then would do nothing."""

from __future__ import annotations

import sys
from types import FunctionType, MethodType

from tcppar.child.handlers import COROUTINE, FUNCTION, REQUEST_HANDLER
from tcppar.child.unrun import watched
from tcppar.spawner.mentions import names_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tcppar.child.handlers import Kind

# Flags of code (inspect, "Code Objects Bit Flags"); inspect itself is large.
_TAKES_ANY, _GENERATOR, _COROUTINE, _ITERABLE_COROUTINE, _ASYNC_GENERATOR = 0x04, 0x20, 0x80, 0x100, 0x200
# What a function that runs a coroutine to its end speaks of.
_RUNNERS = frozenset({"run", "run_until_complete", "Runner", "send"})
_CALLED_BY_SOCKETSERVER = ("setup", "handle", "finish")
_EXPECTED = "expected a function of one connection, an async def of one, or a request handler class of socketserver"


class NotAHandler(Exception):
    """The text says why, and what was expected."""


def kind_of(found: Any) -> Kind:
    """The kind.

    Raises:
        NotAHandler: it is of none.
    """
    if isinstance(whole := _of_partial(found), type):
        return _kind_of_class(whole)
    if not callable(found):
        raise NotAHandler(f"{found!r} cannot be called: {_EXPECTED}")
    function, given = _what_is_called(found)
    if function is not None and not _takes(function, given):
        takes = function.__code__.co_argcount + function.__code__.co_kwonlyargcount - (given - 1)
        raise NotAHandler(f"it takes {takes} argument{'' if takes == 1 else 's'}: {_EXPECTED}")
    if function is not None and function.__code__.co_flags & (_COROUTINE | _ITERABLE_COROUTINE):
        return COROUTINE
    if (what := _never_run(found)) is not None:
        raise NotAHandler(f"it {what}: {_EXPECTED}")
    return FUNCTION


def _of_partial(found: Any) -> Any:
    """What functools.partial has made it of; itself if it is not."""
    # A partial function can only be there if somebody has loaded it.
    partial = functools.partial if (functools := sys.modules.get("functools")) else ()
    while isinstance(found, partial):
        found = found.func
    return found


def _kind_of_class(found: type) -> Kind:
    if not all(callable(getattr(found, method, None)) for method in _CALLED_BY_SOCKETSERVER):
        raise NotAHandler(f"the class has no setup, handle and finish: {_EXPECTED}")
    socketserver = sys.modules.get("socketserver")
    if socketserver is not None and issubclass(found, socketserver.DatagramRequestHandler):
        raise NotAHandler(f"the class is for datagrams, which are not served: {_EXPECTED}")
    # http.server calls do_GET and the like.
    for name in (*_CALLED_BY_SOCKETSERVER, *(name for name in dir(found) if name.startswith("do_"))):
        method = getattr(found, name)
        if not callable(method):
            continue
        function, _ = _what_is_called(method)
        is_coroutine = function is not None and function.__code__.co_flags & (_COROUTINE | _ITERABLE_COROUTINE)
        what = "is an async def" if is_coroutine else _never_run(method)
        if what is not None:
            raise NotAHandler(
                f"{name} {what}, and socketserver only calls it, so that it would never run: expected a function "
                "without yield; asyncio.run(...) in it runs a coroutine, and so does an async def as handler in place "
                "of the class"
            )
    if isinstance(_attribute(found, "handle"), FunctionType):
        found.handle = watched(found.handle)  # type: ignore[attr-defined]
    return REQUEST_HANDLER


def _attribute(found: type, name: str) -> object:
    """What a class or one of its bases has under a name, and not what an instance would get by it."""
    return next((vars(base)[name] for base in found.__mro__ if name in vars(base)), None)


def _never_run(found: Any) -> str | None:
    """What a call of this leaves for others to run, of which there are none; None if it runs by itself."""
    function, _ = _what_is_called(found)
    flags = 0 if function is None else function.__code__.co_flags
    if flags & _ASYNC_GENERATOR:
        return "is an async generator function (an async def with yield), of which a call runs nothing"
    if flags & _GENERATOR:
        return "is a generator function (it has a yield), of which a call runs nothing"
    wrapped = _wrapped(found if function is None else function)
    if wrapped is not None and function is not None and _is_of_contextlib(function):
        return f"is a context manager, {wrapped.__qualname__}, of which a call runs nothing: enter it in one, by with"
    if wrapped is None or not wrapped.__code__.co_flags & _COROUTINE:
        return None
    if function is not None and not _RUNNERS.isdisjoint(names_in(function.__code__)):
        return None  # it runs the coroutine
    return (
        f"is a wrapper of the async def {wrapped.__qualname__}, and does not await it: make the wrapper an async def "
        "too. (If it does run it, leave out functools.wraps)"
    )


def _is_of_contextlib(function: FunctionType) -> bool:
    """Whether it is what contextlib.contextmanager and asynccontextmanager make, by where its code stands."""
    contextlib = sys.modules.get("contextlib")
    return contextlib is not None and function.__code__.co_filename == contextlib.contextmanager.__code__.co_filename


def _wrapped(found: Any) -> FunctionType | None:
    """What functools.wraps says that this stands for."""
    inner: Any = getattr(found, "__wrapped__", None)
    while hasattr(inner, "__wrapped__"):
        inner = inner.__wrapped__
    return None if inner is None else _what_is_called(inner)[0]


def _what_is_called(found: Any) -> tuple[FunctionType | None, int]:
    """The Python function that a call of this comes to, None if it is not one; and how many arguments it is given."""
    given = 1
    # A partial function can only be there if somebody has loaded it.
    partial = functools.partial if (functools := sys.modules.get("functools")) else ()
    while not isinstance(found, FunctionType):
        if isinstance(found, partial):
            given += len(found.args)
            found = found.func
        elif isinstance(found, MethodType):
            given += 1
            found = found.__func__
        elif isinstance(call := type(found).__call__, FunctionType):
            given += 1
            found = call
        else:
            return None, given
    return found, given


def _takes(function: FunctionType, given: int) -> bool:
    """Whether it can be called with so many arguments and no others."""
    code = function.__code__
    needed = code.co_argcount - len(function.__defaults__ or ())
    by_name = code.co_kwonlyargcount - len(function.__kwdefaults__ or {})
    takes_any = bool(code.co_flags & _TAKES_ANY)
    return needed <= given and (code.co_argcount >= given or takes_any) and not by_name

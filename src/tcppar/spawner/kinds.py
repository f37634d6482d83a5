"""Which kind of handler something is, seen without calling it; and what could be called, and then would do nothing."""

from __future__ import annotations

import sys
from types import FunctionType

from tcppar.child.handlers import COROUTINE, FUNCTION, REQUEST_HANDLER
from tcppar.child.unrun import watched
from tcppar.spawner import calls_of
from tcppar.spawner.calls_of import Call
from tcppar.spawner.mentions import names_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tcppar.child.handlers import Kind

# Flags of code (inspect, "Code Objects Bit Flags"); inspect itself is large.
_GENERATOR, _COROUTINE, _ITERABLE_COROUTINE, _ASYNC_GENERATOR = 0x20, 0x80, 0x100, 0x200
# What a function that runs a coroutine to its end speaks of.
_RUNNERS = frozenset({"run", "run_until_complete", "Runner", "send"})
_CALLED_BY_SOCKETSERVER = ("setup", "handle", "finish")
_EXPECTED = "expected a function of one connection, an async def of one, or a request handler class of socketserver"


class NotAHandler(Exception):
    """The text says why, and what was expected."""


def kind_of(found: Any, *, by_server: bool = False) -> Kind:
    """The kind.

    Args:
        by_server: whether a program's server makes the objects of a class, as it likes.

    Raises:
        NotAHandler: it is of none.
    """
    if isinstance((made := calls_of.of_partial(found)).what, type):
        return _kind_of_class(made.what, None if by_server else made)
    if not callable(found):
        raise NotAHandler(f"{found!r} cannot be called: {_EXPECTED}")
    if (why := calls_of.refusal(found)) is not None:
        raise NotAHandler(f"{why}: {_EXPECTED}")
    function = calls_of.function_of(found)
    if function is not None and function.__code__.co_flags & (_COROUTINE | _ITERABLE_COROUTINE):
        return COROUTINE
    if (what := _never_run(found)) is not None:
        raise NotAHandler(f"it {what}: {_EXPECTED}")
    return FUNCTION


def _kind_of_class(found: type, made: Call | None) -> Kind:
    """That of a class; `made` is how its objects are made."""
    if not all(callable(getattr(found, method, None)) for method in _CALLED_BY_SOCKETSERVER):
        raise NotAHandler(f"the class has no setup, handle and finish: {_EXPECTED}")
    if made is not None and (why := calls_of.refusal_of_class(found, made)) is not None:
        raise NotAHandler(f"{why}: {_EXPECTED}")
    if all(_where(found, name) == "socketserver" for name in ("__init__", *_CALLED_BY_SOCKETSERVER)):
        raise NotAHandler(f"the class has the handle of socketserver's own classes, which does nothing: {_EXPECTED}")
    socketserver = sys.modules.get("socketserver")
    if socketserver is not None and issubclass(found, socketserver.DatagramRequestHandler):
        raise NotAHandler(f"the class is for datagrams, which are not served: {_EXPECTED}")
    # http.server calls do_GET and the like.
    for name in (*_CALLED_BY_SOCKETSERVER, *(name for name in dir(found) if name.startswith("do_"))):
        method = getattr(found, name)
        if not callable(method):
            continue
        takes_self = calls_of.refusal(method) is None or calls_of.takes_nothing(method)
        if name in _CALLED_BY_SOCKETSERVER and not takes_self:
            raise NotAHandler(f"{name} takes more arguments than self, with which socketserver calls it: {_EXPECTED}")
        function = calls_of.function_of(method)
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


def _where(found: type, name: str) -> str:
    """The module of the class that has a name, the class itself or one of its bases."""
    return next(base.__module__ for base in found.__mro__ if name in vars(base))


def _attribute(found: type, name: str) -> object:
    """What a class or one of its bases has under a name, and not what an instance would get by it."""
    return next((vars(base)[name] for base in found.__mro__ if name in vars(base)), None)


def _never_run(found: Any) -> str | None:
    """What a call of this leaves for others to run, of which there are none; None if it runs by itself."""
    function = calls_of.function_of(found)
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
    return None if inner is None else calls_of.function_of(inner)

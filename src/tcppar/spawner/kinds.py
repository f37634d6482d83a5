"""Which kind of handler something is, seen without calling it; and what could be called, and then would do nothing."""

from __future__ import annotations

import sys
from types import FunctionType

from tcppar.child.calling import ASYNC_GENERATOR, GENERATOR, Call
from tcppar.child.calling import COROUTINE as IS_COROUTINE
from tcppar.child.handlers import COROUTINE, FUNCTION, REQUEST_HANDLER
from tcppar.child.unrun import watched
from tcppar.spawner import calls_of
from tcppar.spawner.mentions import names_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tcppar.child.handlers import Kind

# What a function that runs a coroutine to its end speaks of.
_RUNNERS = frozenset({"run", "run_until_complete", "Runner", "send"})
# The request, the client's address and the server.
_OF_A_REQUEST = 3
_CALLED_BY_SOCKETSERVER = ("setup", "handle", "finish")
_EXPECTED = (
    "expected a function or an async def that can be called with one argument, the connection, or a request handler "
    "class from socketserver"
)


class NotAHandler(Exception):
    """The text says why, and what was expected."""


def kind_of(found: Any, *, by_server: bool = False) -> Kind:
    """The kind.

    Args:
        by_server: whether a program's server makes the objects of a class, as it likes.

    Raises:
        NotAHandler: it is of none.
    """
    made = Call(found, _OF_A_REQUEST)
    if isinstance(made.what, type):
        return _kind_of_class(made.what, None if by_server else made)
    if not callable(found):
        raise NotAHandler(f"{found!r} cannot be called: {_EXPECTED}")
    call = Call(found, 1)
    if (misfit := calls_of.refusal(call, found)) is not None:
        raise NotAHandler(f"it {misfit}: {_EXPECTED}")
    if call.flags & IS_COROUTINE:
        return COROUTINE
    if (what := _never_run(found)) is not None:
        raise NotAHandler(f"it {what}: {_EXPECTED}")
    return FUNCTION


def _kind_of_class(found: type, made: Call | None) -> Kind:
    """That of a class; `made` is how its objects are made."""
    if not all(callable(getattr(found, method, None)) for method in _CALLED_BY_SOCKETSERVER):
        raise NotAHandler(f"the class has no setup, handle and finish: {_EXPECTED}")
    if made is not None and (why := calls_of.refusal_of_class(made)) is not None:
        raise NotAHandler(why)
    if all(_where(found, name) == "socketserver" for name in ("__init__", *_CALLED_BY_SOCKETSERVER)):
        raise NotAHandler(f"the class has the handle of socketserver's own classes, which does nothing: {_EXPECTED}")
    socketserver = sys.modules.get("socketserver")
    if socketserver is not None and issubclass(found, socketserver.DatagramRequestHandler):
        raise NotAHandler(f"the class is for datagrams, which are not served: {_EXPECTED}")
    for name in _CALLED_BY_SOCKETSERVER:
        if isinstance(method := _attribute(found, name), FunctionType) and (misfit := Call(method, 1).misfit()):
            raise NotAHandler(f"{name} {misfit}: expected a method that can be called with self alone")
    # http.server calls do_GET and the like.
    for name in (*_CALLED_BY_SOCKETSERVER, *(name for name in dir(found) if name.startswith("do_"))):
        method = getattr(found, name)
        if not callable(method):
            continue
        what = "is an async def" if Call(method, 1).flags & IS_COROUTINE else _never_run(method)
        if what is not None:
            raise NotAHandler(
                f"{name} {what}, and socketserver only calls it, so it would never run: expected a function "
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
    call = Call(found, 1)
    function, flags = call.function, call.flags
    if flags & ASYNC_GENERATOR:
        return "is an async generator function (an async def with yield), and calling it runs nothing"
    if flags & GENERATOR:
        return "is a generator function (it has a yield), and calling it runs nothing"
    wrapped = _wrapped(found if function is None else function)
    if wrapped is not None and function is not None and _is_of_contextlib(function):
        return f"is a context manager, {wrapped.__qualname__}, and calling it runs nothing: use it with `with`"
    if wrapped is None or not wrapped.__code__.co_flags & IS_COROUTINE:
        return None
    if function is not None and not _RUNNERS.isdisjoint(names_in(function.__code__)):
        return None  # it runs the coroutine
    return (
        f"is a wrapper around the async def {wrapped.__qualname__}, and does not await it: make the wrapper an "
        "async def too. (If it does run it, leave out functools.wraps)"
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
    return None if inner is None else Call(inner, 1).function

"""Whether a call with a connection can succeed, as far as that is known without it: by the arguments that are taken."""

from __future__ import annotations

import sys
from types import (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    FunctionType,
    MethodDescriptorType,
    MethodType,
    WrapperDescriptorType,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Flags of code (inspect, "Code Objects Bit Flags"); inspect itself is large.
_TAKES_ANY, _TAKES_ANY_BY_NAME = 0x04, 0x08
# Flag of a class (object.h, Py_TPFLAGS_IS_ABSTRACT).
_IS_ABSTRACT = 1 << 20
# The object itself, the request, the client's address and the server.
_OF_A_REQUEST_HANDLER = 4
_IN_C = (BuiltinFunctionType, MethodDescriptorType, WrapperDescriptorType, ClassMethodDescriptorType)


class Call:
    """What a call comes to, and what it is given beside what the caller gives.

    Args:
        what: what is called in the end.
        given: how many arguments by position.
        named: those by name.
    """

    __slots__ = ("given", "named", "what")

    def __init__(self, what: Any, given: int = 0, named: frozenset[str] = frozenset()) -> None:
        self.what = what
        self.given = given
        self.named = named


def of_partial(found: Any) -> Call:
    """What functools.partial has made it of, and with what; itself if it is not."""
    # A partial function can only be there if somebody has loaded it.
    partial = functools.partial if (functools := sys.modules.get("functools")) else ()
    given, named = 0, frozenset[str]()
    while isinstance(found, partial):
        given += len(found.args)
        named |= found.keywords.keys()
        found = found.func
    return Call(found, given, named)


def _resolved(found: Any) -> Call:
    """To the Python function, if it comes to one."""
    call = of_partial(found)
    while not isinstance(call.what, FunctionType):
        if isinstance(call.what, MethodType):
            inner = of_partial(call.what.__func__)
        elif isinstance(its := type(call.what).__call__, FunctionType):
            inner = of_partial(its)
        else:
            break
        call = Call(inner.what, call.given + inner.given + 1, call.named | inner.named)
    return call


def function_of(found: Any) -> FunctionType | None:
    """The Python function that a call comes to; None if it comes to none."""
    function = _resolved(found).what
    return function if isinstance(function, FunctionType) else None


def refusal(found: Any) -> str | None:
    """Why a call with one argument, a connection, must fail; None if it need not.

    Args:
        found: what can be called, and is no class.
    """
    call = _resolved(found)
    if isinstance(call.what, FunctionType):
        if takes(call.what, call.given + 1, call.named):
            return None
        if call.named:
            return "it cannot be called with one argument beside those that functools.partial gives it"
        code = call.what.__code__
        count = code.co_argcount + code.co_kwonlyargcount - call.given
        return f"it takes {count} argument{'' if count == 1 else 's'}"
    if isinstance(call.what, _IN_C) and (name := _pythons_own(call.what)):
        return f"it is {name}, a function of Python itself, which knows nothing of connections"
    return None if _binds(found) else f"{found!r} cannot be called with one argument"


def takes_nothing(found: Any) -> bool:
    """Whether a call without arguments can succeed, as far as that is known."""
    call = _resolved(found)
    return not isinstance(call.what, FunctionType) or takes(call.what, call.given, call.named)


def _pythons_own(function: Any) -> str | None:
    """The name of a function in C that belongs to Python's own library, or to one of its classes; None of any other.
    One of somebody's own module can be a handler."""
    owner = getattr(function, "__objclass__", function)
    module = getattr(owner, "__module__", None) or ""
    return f"{module}.{function.__qualname__}" if module.partition(".")[0] in sys.stdlib_module_names else None


def _binds(found: Any) -> bool:
    import inspect  # it is large, and only for what is neither Python's function nor a partial one of it

    try:
        signature = inspect.signature(found)
    except (TypeError, ValueError):
        return True  # it does not tell
    try:
        signature.bind(None)
    except TypeError:
        return False
    return True


def refusal_of_class(found: Any, made: Call) -> str | None:
    """Why no object of a request handler class can be made as socketserver does it; None if one can, or may."""
    if found.__flags__ & _IS_ABSTRACT:
        return f"the class is abstract: it lacks {', '.join(sorted(found.__abstractmethods__))}"
    begin = found.__init__
    if type(found).__call__ is not type.__call__ or found.__new__ is not object.__new__:
        return None
    if not isinstance(begin, FunctionType) or takes(begin, _OF_A_REQUEST_HANDLER + made.given, made.named):
        return None
    return "the class cannot be called with a request, a client's address and a server, as socketserver does"


def takes(function: FunctionType, given: int, named: frozenset[str] = frozenset()) -> bool:
    """Whether it can be called with so many arguments by position, those by name, and no others."""
    code = function.__code__
    positional = code.co_varnames[: code.co_argcount]
    by_name = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    optional = {*positional[code.co_argcount - len(function.__defaults__ or ()) :], *(function.__kwdefaults__ or {})}
    by_position_alone = positional[: code.co_posonlyargcount]
    filled = {*positional[:given], *(named - {*by_position_alone})}
    unknown = named - {*positional[code.co_posonlyargcount :], *by_name}
    return (
        {*positional, *by_name} <= filled | optional
        and (given <= len(positional) or bool(code.co_flags & _TAKES_ANY))
        and named.isdisjoint({*positional[:given]} - {*by_position_alone})
        and (not unknown or bool(code.co_flags & _TAKES_ANY_BY_NAME))
    )

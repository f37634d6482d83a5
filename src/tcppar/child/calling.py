"""What a call of something comes to, seen without calling it; `inspect` can do more, and is large."""

from __future__ import annotations

import sys
from types import FunctionType, MethodType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Flags of code (inspect, "Code Objects Bit Flags").
_TAKES_ANY, _TAKES_ANY_BY_NAME = 0x04, 0x08
GENERATOR, _COROUTINE, _ITERABLE_COROUTINE, ASYNC_GENERATOR = 0x20, 0x80, 0x100, 0x200
COROUTINE = _COROUTINE | _ITERABLE_COROUTINE


class Call:
    """A call with some arguments by position.

    Args:
        called: what is called.
        arguments: how many it is given by whoever calls it.

    Attributes:
        what: what it comes to, behind functools.partial, methods and objects with a `__call__` of Python's: a Python
            function, a class, or something that is not to be seen into.
        function: the Python function that it comes to; None if it is another kind of callable.
        bound: how many arguments stand before those, from methods and functools.partial.
        names: those that functools.partial gives by name.
    """

    __slots__ = ("arguments", "bound", "function", "names", "what")

    def __init__(self, called: Any, arguments: int) -> None:
        self.arguments = arguments
        self.bound = 0
        self.names: set[str] = set()
        # A partial function can only be there if somebody has loaded it.
        partial = functools.partial if (functools := sys.modules.get("functools")) else ()
        while not isinstance(called, FunctionType | type):
            if isinstance(called, partial):
                self.bound += len(called.args)
                self.names |= called.keywords.keys()
                called = called.func
            elif isinstance(called, MethodType):
                self.bound += 1
                called = called.__func__
            elif isinstance(call := type(called).__call__, FunctionType):
                self.bound += 1
                called = call
            else:
                break
        self.what: Any = called
        self.function: FunctionType | None = called if isinstance(called, FunctionType) else None

    @property
    def flags(self) -> int:
        """Those of the function's code."""
        return 0 if self.function is None else self.function.__code__.co_flags

    def misfit(self) -> str | None:
        """Why Python would refuse it, as what is to be said of the function; None if it would not."""
        return None if self.function is None else self.misfit_of(self.function)

    def misfit_of(self, function: FunctionType) -> str | None:
        """As `misfit`, if these arguments go to that function."""
        code, given = function.__code__, self.bound + self.arguments
        takes = code.co_varnames[: code.co_argcount]
        by_position = takes[: code.co_posonlyargcount]
        by_name = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
        named = self.names.difference(by_position)
        needed = takes[: len(takes) - len(function.__defaults__ or ())]
        if missing := [name for name in by_name if name not in {*(function.__kwdefaults__ or ()), *named}]:
            return f"needs {_arguments(missing, 'keyword-only argument')}"
        if missing := [name for name in needed[given:] if name not in named]:
            return f"needs {_arguments((*needed[self.bound : given], *missing))}"
        if given > len(takes) and not code.co_flags & _TAKES_ANY:
            return f"takes {_arguments(takes[self.bound :])}"
        if twice := [name for name in takes[:given] if name in named]:
            return f"gets {_arguments(twice)} twice, because functools.partial names it"
        unknown = sorted(self.names.difference(takes[len(by_position) :], by_name))
        if unknown and not code.co_flags & _TAKES_ANY_BY_NAME:
            return f"does not take {_arguments(unknown)}, which functools.partial gives it"
        return None


def _arguments(names: list[str] | tuple[str, ...], kind: str = "argument") -> str:
    if len(names) == 1:
        return f"the {kind} {names[0]!r}"
    return f"{len(names) or 'no'} {kind}s" + (f" ({', '.join(names)})" if names else "")

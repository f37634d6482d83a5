"""What a handler can return instead of having done it: a coroutine, a generator, and the like, which was never run."""

from __future__ import annotations

import sys
from types import AsyncGeneratorType, CoroutineType, FunctionType, GeneratorType, MethodType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_GENERATORS = (GeneratorType, AsyncGeneratorType)
_ITERATORS = (map, filter)
_FUNCTIONS = (FunctionType, MethodType)
_COLLECTIONS = (list, tuple, set, frozenset)
_MOST_LOOKED_AT = 16


class Unrun(Exception):
    """A method whose result nobody looks at has returned something of the kind; the text is that of `unrun`."""


def watched(method: Callable[[Any], object]) -> Callable[[Any], None]:
    """A method that does the same, and raises Unrun: socketserver calls `handle`, and drops what it returns."""

    def handle(self: Any) -> None:
        result = method(self)
        if result is not None and (left := unrun(result)) is not None:
            raise Unrun(left)

    handle.__name__, handle.__qualname__, handle.__doc__ = method.__name__, method.__qualname__, method.__doc__
    return handle


def unrun(result: object) -> str | None:
    """What it is, and what to write instead; None if it is nothing of the kind.

    A coroutine is ended, so that nobody else complains about it. Of a collection, the first few are looked at.
    """
    if result is None:
        return None
    if isinstance(result, _COLLECTIONS):
        first = [entry for entry, _ in zip(result, range(_MOST_LOOKED_AT), strict=False)]
        found = [left for entry in first if (left := _alone(entry)) is not None]
        return f"a {type(result).__name__} with {found[0]}" if found else None
    return _alone(result)


def _alone(result: object) -> str | None:
    if isinstance(result, CoroutineType):
        result.close()
        return f"a coroutine of {result.__qualname__}, which was never run: await it in a handler that is an async def"
    if isinstance(result, _GENERATORS):
        return f"a generator, {result.__qualname__}, none of which was run: iterate over it in the handler"
    if isinstance(inner := getattr(result, "gen", None), _GENERATORS):  # contextlib's
        return f"a context manager, {inner.__qualname__}, which was never entered: enter it in the handler, using with"
    if isinstance(result, _ITERATORS):
        return f"a {type(result).__name__}, none of which was run: iterate over it in the handler"
    if isinstance(result, (*_FUNCTIONS, _partial())):
        return f"a function, {getattr(result, '__qualname__', result)}, that was never called: call it in the handler"
    if hasattr(type(result), "__await__"):
        return f"a {type(result).__qualname__} that was never awaited: await it in a handler that is an async def"
    return None


def _partial() -> Any:
    # One can only be there if somebody has loaded it.
    return functools.partial if (functools := sys.modules.get("functools")) else FunctionType

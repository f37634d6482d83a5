"""What a handler can return instead of having done it: a coroutine, a generator, and the like, which nobody runs."""

from __future__ import annotations

from types import AsyncGeneratorType, CoroutineType, GeneratorType

_GENERATORS = (GeneratorType, AsyncGeneratorType)


def unrun(result: object) -> str | None:
    """What it is, and what to write instead; None if it is nothing of the kind.

    A coroutine is ended, so that nobody else complains about it.
    """
    if isinstance(result, CoroutineType):
        result.close()
        return f"a coroutine of {result.__qualname__}, which nobody runs: await it in a handler that is an async def"
    if isinstance(result, _GENERATORS):
        return f"a generator, {result.__qualname__}, of which nothing was run: go through it in the handler"
    if isinstance(inner := getattr(result, "gen", None), _GENERATORS):  # contextlib's
        return f"a context manager, {inner.__qualname__}, of which nothing was run: enter it in the handler, by with"
    if hasattr(type(result), "__await__"):
        return f"a {type(result).__qualname__} that nobody awaits: await it in a handler that is an async def"
    return None

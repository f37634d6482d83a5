"""Handlers that are no plain function: methods, objects, partial and decorated ones. Each answers one line."""

import asyncio
import functools
from collections.abc import Callable
from typing import Any

import tcppar


def answer(greeting: bytes, conn: tcppar.Connection) -> None:
    conn.write(greeting + conn.read_until())


async def answer_later(greeting: bytes, conn: tcppar.AsyncConnection) -> None:
    await conn.write(greeting + await conn.read_until())


class Greeter:
    def __init__(self, greeting: bytes) -> None:
        self.greeting = greeting

    def method(self, conn: tcppar.Connection) -> None:
        answer(self.greeting, conn)

    async def later(self, conn: tcppar.AsyncConnection) -> None:
        await answer_later(self.greeting, conn)

    __call__ = method


class LaterGreeter(Greeter):
    __call__ = Greeter.later  # type: ignore[assignment]


def supplied(wrapped: Callable[..., None]) -> Callable[[tcppar.Connection], None]:
    """Gives the handler an argument more."""

    @functools.wraps(wrapped)
    def wrapper(conn: tcppar.Connection) -> None:
        wrapped(b"hello ", conn)

    return wrapper


def run_to_the_end(wrapped: Callable[..., Any]) -> Callable[[tcppar.Connection], None]:
    """Makes a function of a coroutine."""

    @functools.wraps(wrapped)
    def wrapper(conn: tcppar.Connection) -> None:
        conn.write(asyncio.run(wrapped()) + conn.read_until())

    return wrapper


greeter = Greeter(b"hello ")
method = greeter.method
later_method = greeter.later
later_object = LaterGreeter(b"hello ")
partial = functools.partial(answer, b"hello ")
later_partial = functools.partial(answer_later, b"hello ")


@supplied
def decorated(greeting: bytes, conn: tcppar.Connection) -> None:
    answer(greeting, conn)


@run_to_the_end
async def wrapped_coroutine() -> bytes:
    return b"hello "

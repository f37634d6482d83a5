"""What can be called like a handler, or looks like a class of them, and leaves its work to nobody."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from http.server import BaseHTTPRequestHandler
from socketserver import BaseRequestHandler, DatagramRequestHandler, StreamRequestHandler
from typing import Any

import tcppar

Asynchronous = Callable[[tcppar.AsyncConnection], Coroutine[Any, Any, None]]


def generator(conn: tcppar.Connection) -> Iterator[None]:
    conn.write(b"never")
    yield


async def async_generator(conn: tcppar.AsyncConnection) -> AsyncIterator[None]:
    await conn.write(b"never")
    yield


async def coroutine(conn: tcppar.AsyncConnection) -> None:
    await conn.write(b"never")


def passed_on(wrapped: Asynchronous) -> Callable[[Any], Any]:
    @functools.wraps(wrapped)
    def wrapper(conn: Any) -> Any:
        print("a wrapper may do something else")
        return wrapped(conn)

    return wrapper


class Callables:
    def generator(self, conn: tcppar.Connection) -> Iterator[None]:
        conn.write(b"never")
        yield

    __call__ = generator

    @classmethod
    def by_class(cls, conn: tcppar.Connection) -> Iterator[None]:
        conn.write(b"never")
        yield

    @staticmethod
    def static(conn: tcppar.Connection) -> Iterator[None]:
        conn.write(b"never")
        yield


class AsyncHandle(BaseRequestHandler):
    async def handle(self) -> None:  # type: ignore[override]
        self.request.sendall(b"never")


class GeneratorHandle(StreamRequestHandler):
    def handle(self) -> Iterator[None]:  # type: ignore[override]
        yield self.request.sendall(b"never")


class WrappedHandle(BaseRequestHandler):
    handle = passed_on(AsyncHandle.handle)  # type: ignore[arg-type]


class AsyncSetup(BaseRequestHandler):
    async def setup(self) -> None:  # type: ignore[override]
        pass


class AsyncGet(BaseHTTPRequestHandler):
    async def do_GET(self) -> None:
        self.send_error(500)


class Datagrams(DatagramRequestHandler):
    def handle(self) -> None:
        self.wfile.write(b"never")


class ManagedHandle(StreamRequestHandler):
    @contextlib.contextmanager
    def handle(self) -> Iterator[None]:  # type: ignore[override]
        yield self.request.sendall(b"never")


wrapped = passed_on(coroutine)
wrapped_twice = passed_on(passed_on(coroutine))
cached = functools.lru_cache(coroutine)
partial = functools.partial(generator)
callable_object = Callables()
method = callable_object.generator


# What is seen only when it has returned.


def returns_a_coroutine(conn: Any) -> Any:
    return coroutine(conn)


def returns_a_generator(conn: Any) -> Any:
    return generator(conn)


def returns_an_async_generator(conn: Any) -> Any:
    return async_generator(conn)


@contextlib.contextmanager
def context_manager(conn: tcppar.Connection) -> Generator[None, None, None]:
    conn.write(b"never")
    yield


def returns_a_map(conn: tcppar.Connection) -> Any:
    return map(conn.write, [b"never"])


def returns_a_function(conn: tcppar.Connection) -> Any:
    return lambda: conn.write(b"never")


def returns_a_partial_function(conn: tcppar.Connection) -> Any:
    return functools.partial(conn.write, b"never")


async def gathers_nothing(conn: tcppar.AsyncConnection) -> Any:
    return [coroutine(conn)]


class LazyHandle(StreamRequestHandler):
    def handle(self) -> Any:
        return (self.request.sendall(b"never") for _ in range(1))


class InheritedLazyHandle(LazyHandle):
    pass


def enters(conn: tcppar.Connection) -> Any:
    return context_manager(conn)


class _Promise:
    def __await__(self) -> Generator[Any, None, None]:
        return asyncio.sleep(0).__await__()


def returns_an_awaitable(conn: tcppar.Connection) -> Awaitable[None]:
    return _Promise()


async def awaits_half(conn: tcppar.AsyncConnection) -> Any:
    return coroutine(conn)


by_lambda = lambda conn: coroutine(conn)  # noqa: E731


# Those that do what they promise.


def returns_a_number(conn: tcppar.Connection) -> int:
    conn.write(b"done")
    return 3


def returns_its_connection(conn: tcppar.Connection) -> tcppar.Connection:
    conn.write(b"done")
    return conn


@functools.wraps(coroutine)
def runs_it(conn: tcppar.Connection) -> None:
    async def run() -> None:
        conn.write(b"done")

    asyncio.run(run())

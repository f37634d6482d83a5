"""Running a Python handler for one connection, whatever kind it is of."""

import os
import socket
import sys
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any, NoReturn

from tcppar.errors import PeerGone
from tcppar.records import Endpoints, Family

if TYPE_CHECKING:
    from tcppar.child.async_connection import AsyncConnection
    from tcppar.child.connection import Connection

SUCCEEDED, FAILED = 0, 1
_GONE = (PeerGone, ConnectionError)
_FAMILIES = {Family.IPV4: socket.AF_INET, Family.IPV6: socket.AF_INET6, Family.UNIX: socket.AF_UNIX}


class Kind(Enum):
    """What a handler is."""

    FUNCTION = "a function of a Connection"
    COROUTINE = "an async def of an AsyncConnection"
    REQUEST_HANDLER = "a class of socketserver's"


class Handler:
    """A loaded handler.

    Args:
        target: what the configuration calls it, for messages.
        called: the function or the class.
        kind: how it is called.
    """

    def __init__(self, target: str, called: Any, kind: Kind) -> None:
        self.target = target
        self._kind = kind
        self._run: Callable[[socket.socket, str, str, Endpoints], object] = _RUNNERS[kind](called)

    def rehearsal(self) -> "Handler":
        """A handler of the same kind, that answers one byte."""
        return Handler("rehearsal", _REHEARSALS[self._kind], self._kind)

    def converse(self, descriptor: int, connection_id: str, service: str, endpoints: Endpoints) -> int:
        """Run it to its end, and end the connection in order; an exit code.

        What a handler raises ends its own connection and nothing else: this is one of the two places that catch
        everything.
        """
        # With its kind given, the socket object asks the system for nothing.
        sock = socket.socket(_FAMILIES[endpoints.family], socket.SOCK_STREAM, 0, descriptor)
        try:
            self._run(sock, connection_id, service, endpoints)
        except SystemExit as leaving:
            return _exit_code(leaving)
        except BaseException as error:  # noqa: BLE001 - see above
            if _is_peers(error):
                say(f"handler {self.target}: connection {connection_id}: {endpoints.peer} is gone: {error}")
            else:
                say_traceback(f"handler {self.target} failed in connection {connection_id} from {endpoints.peer}")
            return FAILED
        finally:
            _end(sock)
        return SUCCEEDED


def _is_peers(error: BaseException) -> bool:
    """Whether it says that the peer is gone, and nothing else; tasks raise several at once (ExceptionGroup)."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(_GONE)[1] is None
    return isinstance(error, _GONE)


def _end(sock: socket.socket) -> None:
    """Tell the client that all is said, even while somebody else still has a duplicate; then close."""
    try:
        sock.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # the client is gone, or the handler has done it
    sock.close()


def say(what: str) -> None:
    """Write to the log, in one piece, for other processes write to it too."""
    try:
        sys.stderr.write(what.rstrip("\n") + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        pass  # the handler has closed it


def say_traceback(what: str) -> None:
    """Write to the log, with the traceback of the exception that is being handled."""
    import traceback  # only now: its memory would be there in every process

    say(f"{what}\n{traceback.format_exc()}")


def _exit_code(leaving: SystemExit) -> int:
    if leaving.code is None:
        return SUCCEEDED
    return leaving.code & 0xFF if isinstance(leaving.code, int) else FAILED


def _function(called: Any) -> Callable[..., object]:
    from tcppar.child.connection import Connection

    def run(sock: socket.socket, connection_id: str, service: str, endpoints: Endpoints) -> None:
        called(Connection(sock, id=connection_id, service=service, endpoints=endpoints))

    return run


def _coroutine(called: Any) -> Callable[..., object]:
    import asyncio  # only for those who need it: it is as large as all else

    from tcppar.child.async_connection import AsyncConnection

    def run(sock: socket.socket, connection_id: str, service: str, endpoints: Endpoints) -> None:
        async def converse() -> None:
            await called(AsyncConnection(sock, id=connection_id, service=service, endpoints=endpoints))

        asyncio.run(converse())

    return run


def _request_handler(called: Any) -> Callable[..., object]:
    """socketserver's protocol: the class is called with the socket, the client's address and the server."""

    def run(sock: socket.socket, connection_id: str, service: str, endpoints: Endpoints) -> None:
        called(sock, _address(endpoints), RequestServer(called, endpoints))

    return run


_RUNNERS: dict[Kind, Callable[[Any], Callable[..., object]]] = {
    Kind.FUNCTION: _function,
    Kind.COROUTINE: _coroutine,
    Kind.REQUEST_HANDLER: _request_handler,
}


def _answer(conn: "Connection") -> None:
    conn.write(conn.read(1))


async def _answer_async(conn: "AsyncConnection") -> None:
    await conn.write(await conn.read(1))


class _Answer:
    def __init__(self, request: socket.socket, client_address: object, server: object) -> None:
        request.sendall(request.recv(1))


_REHEARSALS: dict[Kind, Any] = {
    Kind.FUNCTION: _answer,
    Kind.COROUTINE: _answer_async,
    Kind.REQUEST_HANDLER: _Answer,
}


class RequestServer:
    """What a request handler of socketserver's finds as `self.server`: where its client connected to, and its class.

    The server itself is another process. What a program has put there, or would call there, is not here.
    """

    def __init__(self, handler_class: Any, endpoints: Endpoints) -> None:
        self.RequestHandlerClass = handler_class
        self.server_address = _as_in_python(endpoints.family, endpoints.local_ip, endpoints.local_port)

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"self.server has no {name!r} here: the server is another process, and shares no objects with its request "
            "handlers; what they need stands in their module"
        )


def _address(endpoints: Endpoints) -> Any:
    """The client's address as accept(2) gives it in Python."""
    return _as_in_python(endpoints.family, endpoints.remote_ip, endpoints.remote_port)


def _as_in_python(family: Family, host: str, port: int) -> Any:
    """An address in the form that Python's sockets have for its family."""
    if family is Family.IPV4:
        return host, port
    if family is Family.IPV6:
        return host, port, 0, 0
    return host


def flush_and_exit(code: int) -> NoReturn:
    """End this process without a word to what it was forked from: no cleaning up of the spawner's things."""
    try:
        flush()
    finally:
        os._exit(code)


def flush() -> None:
    """Write what the handler printed and has not been written yet."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            pass  # the handler has closed it

"""Request handlers of socketserver's: called as their server calls them, in the process of one connection."""

from __future__ import annotations

import _socket
import sys

from tcppar.child.conversation import finish
from tcppar.child.own_path import own

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket as sockets
    from collections.abc import Callable
    from typing import Any

    from tcppar.endpoints import Address, Ends


OF_ADDRESS = ("server_name", "server_port")
"""What http.server's servers know of themselves."""


class Request:
    """What socketserver's protocol has of a connection: the socket and the client's address."""

    __slots__ = ("endpoints", "socket")

    def __init__(self, sock: sockets.socket, endpoints: Ends) -> None:
        self.socket = sock
        self.endpoints = endpoints

    @property
    def client_address(self) -> object:
        return _as_in_python(self.endpoints.family, self.endpoints.remote_address)

    def _finish(self) -> None:
        finish(self.socket)


def prepare() -> Callable[[int, int, str, str, Ends], Request]:
    """How a request begins."""
    kind: Any = own("tcppar.child.client_socket").ClientSocket

    def begin(family: int, descriptor: int, connection_id: str, service: str, endpoints: Ends) -> Request:
        return Request(kind(family, _socket.SOCK_STREAM, 0, descriptor), endpoints)

    return begin


def run(called: Any, request: Request) -> None:
    """As socketserver: the class is called with the socket, the client's address and the server."""
    called(request.socket, request.client_address, RequestServer(called, request.endpoints))


def rehearsed(called: Any, _: frozenset[str]) -> object:
    """A class with the base that the user's has of socketserver's, which does most of the work."""
    socketserver = sys.modules.get("socketserver")
    called = getattr(called, "func", called)  # of a partial class
    if socketserver is None or not issubclass(called, socketserver.StreamRequestHandler):
        return _Answer
    answer = {"handle": lambda handler: handler.wfile.write(handler.rfile.readline(1))}
    return type("Answer", (socketserver.StreamRequestHandler,), answer)


class _Answer:
    def __init__(self, request: sockets.socket, client_address: object, server: object) -> None:
        request.sendall(request.recv(1))


def run_by_server(server: Any, request: Request) -> None:
    """As socketserver's BaseServer does for each request, by a copy of the program's server (`server_copy.py`)."""
    sock, address = request.socket, request.client_address
    if not server.verify_request(sock, address):
        server.shutdown_request(sock)
        return
    try:
        server.process_request(sock, address)
    except Exception:  # noqa: BLE001 - as there
        server.handle_error(sock, address)
        server.shutdown_request(sock)


def rehearsed_by_server(server: Any, mentions: frozenset[str]) -> object:
    """A server of such a handler."""
    return _Rehearsed(rehearsed(server.RequestHandlerClass, mentions))


class _Rehearsed:
    def __init__(self, called: Any) -> None:
        self._called = called

    def verify_request(self, request: sockets.socket, client_address: object) -> bool:
        return True

    def process_request(self, request: sockets.socket, client_address: object) -> None:
        self._called(request, client_address, self)

    def handle_error(self, request: sockets.socket, client_address: object) -> None:
        raise  # noqa: PLE0704 - what is being handled


class RequestServer:
    """What a request handler of socketserver's finds as `self.server`: where its client connected to, and its class.

    The server itself is another process. What a program has put there, or would call there, is not here.
    """

    def __init__(self, handler_class: Any, endpoints: Ends) -> None:
        self.RequestHandlerClass = handler_class
        self.server_address = _as_in_python(endpoints.family, endpoints.local_address)

    def handle_error(self, request: sockets.socket, client_address: object) -> None:
        """As everywhere: what is being handled is told with its traceback."""
        raise  # noqa: PLE0704

    def __getattr__(self, name: str) -> object:
        return named_by_address(self, name)


def named_by_address(server: Any, name: str) -> object:
    """What http.server's servers know of themselves, `server_name` and `server_port`: request handlers ask for it.

    Raises:
        AttributeError: it is something else, which is not here.
    """
    if name in OF_ADDRESS and isinstance(address := vars(server).get("server_address"), tuple):
        return own("socket").getfqdn(address[0]) if name == "server_name" else address[1]
    raise AttributeError(
        f"self.server has no {name!r} here: the server is another process, and shares no objects with its request "
        "handlers; put what they need into their module, or into attributes of the server that can be pickled"
    )


def _as_in_python(family: str, address: Address) -> object:
    """An address in the form that Python's sockets have for its family."""
    return (*address, 0, 0) if family == "ipv6" else address

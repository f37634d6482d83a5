"""Servers of socketserver's kinds with request handlers of Python's own library, and servers that decide themselves."""

import http.server
import os
import socketserver
import sys
import wsgiref.simple_server
from typing import Any
from xmlrpc.server import SimpleXMLRPCServer

import tcppar


class ForkingHTTP(tcppar.ForkingTCPServer, http.server.HTTPServer):
    pass


class PoolHTTP(tcppar.PoolTCPServer, http.server.HTTPServer):
    pass


class ForkingXMLRPC(tcppar.ForkingTCPServer, SimpleXMLRPCServer):
    pass


class PoolXMLRPC(tcppar.PoolTCPServer, SimpleXMLRPCServer):
    pass


class ForkingWSGI(tcppar.ForkingTCPServer, wsgiref.simple_server.WSGIServer):
    pass


class PoolWSGI(tcppar.PoolTCPServer, wsgiref.simple_server.WSGIServer):
    pass


class Arithmetic:
    """An object whose methods can be called."""

    def mul(self, x: int, y: int) -> int:
        return x * y


def add(x: int, y: int) -> int:
    return x + y


def fail() -> None:
    raise ValueError("on purpose")


def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Tells what it is asked for, and what its server is called."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"] or 0))
    words = (environ["REQUEST_METHOD"], environ["PATH_INFO"], environ["SERVER_NAME"], environ["SERVER_PORT"])
    return [" ".join(words).encode(), b" ", body]


class Application:
    """One that cannot be pickled, as those of frameworks."""

    def __init__(self) -> None:
        self.routes = {"/": lambda: b"from the framework"}

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [self.routes["/"]()]


framework = Application()


class Deciding(tcppar.ForkingTCPServer):
    """A server with every method that is called for a request."""

    greeting = b"hello"

    def verify_request(self, request: Any, client_address: Any) -> bool:
        first = request.recv(1, 2)  # MSG_PEEK
        return bool(first != b"-")

    def finish_request(self, request: Any, client_address: Any) -> None:
        self.RequestHandlerClass(request, client_address, self, b"extra")  # type: ignore[call-arg, arg-type]

    def shutdown_request(self, request: Any) -> None:
        request.sendall(b".")
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        request.sendall(f"handled {type(error).__name__}: {error} in {os.getpid()}".encode())


class PoolDeciding(Deciding, tcppar.PoolTCPServer):
    _mode = tcppar.PoolTCPServer._mode


class Asks(socketserver.BaseRequestHandler):
    """Answers with what its server has."""

    def __init__(self, request: Any, client_address: Any, server: Any, more: bytes = b"nothing") -> None:
        self.more = more
        super().__init__(request, client_address, server)

    def handle(self) -> None:
        name = self.request.recv(100).decode().strip()
        if name == "fail":
            raise LookupError("on purpose")
        value = getattr(self.server, name)
        self.request.sendall(repr((value, self.more)).encode())

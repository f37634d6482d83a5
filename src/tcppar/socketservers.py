"""Servers with the interface of socketserver's: a program with one of those moves over by changing one line."""

import socketserver
import threading
from collections.abc import Mapping
from functools import partial
from signal import Signals
from socket import AF_UNIX
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from tcppar.child import request_handlers, server_copy
from tcppar.errors import ConfigurationError
from tcppar.import_path import OF_A_SERVER
from tcppar.records import HandlerMode
from tcppar.server import Server
from tcppar.server_refusals import refuse_in_an_import, refuse_what_is_no_class, refuse_wrapped
from tcppar.server_state import CALLED, as_passed, state_of
from tcppar.settings import LARGEST_BACKLOG, ServiceSettings

# What socketserver calls in the process that accepts, and which is not called in the process of a request.
_NOT_CALLED = ("get_request", "handle_timeout", "process_request_thread", "collect_children")
# Where socketserver's mix-ins make threads or processes.
_MADE_BY = "process_request"
# Attributes that are for a server of another kind.
_WITHOUT_EFFECT = {
    "timeout": "only handle_request uses it, which is not here; to limit clients, set the request handler's timeout",
    "daemon_threads": "requests have processes; block_on_close decides whether server_close waits for them",
}
# What the server's process is told when it is started.
_TOLD_AT_THE_START = ("RequestHandlerClass", "max_children", "tcppar_settings", "socket")


class ForkingTCPServer(socketserver.TCPServer):
    """In place of socketserver.ForkingTCPServer or ThreadingTCPServer: every request has a process of its own.

        with tcppar.ForkingTCPServer(("127.0.0.1", 7000), Handler) as server:
            server.serve_forever()

    As with socketserver, this object listens as soon as it is constructed, and clients who connect before
    `serve_forever`, or between two of them, wait in the kernel's queue; `socket`, `fileno()`, `server_address`,
    `server_bind`, `server_activate`, `service_actions` and the class attributes work as they do there. But
    `serve_forever` starts a tcppar server (see tcppar.Server), which accepts the connections. This leads to some
    differences:

    - The request handler class must be at the top level of a module, or of the program itself, and the program must
      start its server under `if __name__ == "__main__":`.
    - In a request handler, `self.server` is not this object, which is in another process, but a copy of the same class,
      with the attributes that this one had when `serve_forever` was called and that can be pickled. So the request
      handlers of http.server, xmlrpc.server and wsgiref find what they look for, if their server is a base too:
      `class Server(tcppar.ForkingTCPServer, SimpleXMLRPCServer): pass`, in place of socketserver.ThreadingMixIn. What
      cannot be pickled, such as a database connection, is not there; functions must be at the top level of a module. No
      other process sees what a request changes in its copy.
    - `verify_request`, `process_request`, `finish_request`, `handle_error`, `shutdown_request` and `close_request` can
      be overridden, and are called for the copy, in the request's process; the class must then be at the top level of a
      module too. What is called in the process that accepts cannot: `get_request`, `handle_timeout`. The constructor
      refuses a class that overrides it, or that has one of socketserver's mix-ins.
    - There is no `handle_request`, and so no `timeout` and `handle_timeout`.
    - `socket` is a plain one: start TLS in the request handler. If a wrapped socket is refused, the message shows how.
    - While `serve_forever` runs, `RequestHandlerClass`, `max_children` and `tcppar_settings` cannot be changed.
    - When a request handler fails, and `handle_error` is not overridden, its traceback is written to the log, and its
      client sees an orderly end.

    Attributes:
        max_children: how many requests may be served at once; more clients wait in the queue.
        request_queue_size: the length of that queue. The default is as much as the system allows, not 5.
        allow_reuse_address: as in socketserver, but true by default, so that a server can be started again at once.
        block_on_close: whether `server_close` waits for requests that are still being served: for as long as the
            settings `drain_timeout` and `kill_timeout` say, after which they are ended.
        tcppar_settings: further settings of the service (docs/settings.md), such as `{"max_lifetime": "10m"}`.
    """

    allow_reuse_address = True
    request_queue_size = LARGEST_BACKLOG
    max_children: int = ServiceSettings().max_connections
    block_on_close: bool = True
    tcppar_settings: ClassVar[Mapping[str, Any]] = {}
    _mode = HandlerMode.FORK

    def __init__(
        self, server_address: Any, *RequestHandlerClass: Any, bind_and_activate: bool = True, **others: Any
    ) -> None:
        """Listen.

        Args:
            server_address: (host, port), or the path of a Unix socket.
            RequestHandlerClass: a request handler class of socketserver, or a functools.partial of one. What follows it
                is `bind_and_activate`; or what the other base of the class expects.
            bind_and_activate: whether to call `server_bind` and `server_activate`.
            others: what the other base of the class expects, such as `allow_none` of SimpleXMLRPCServer.

        Raises:
            ConfigurationError: the class cannot be found by other processes, a setting is wrong, or a method is
                overridden that would not be called.
            OSError: as bind(2) and listen(2).
        """
        construct: Any = super().__init__
        if len(RequestHandlerClass) > 1 and construct.__func__ is socketserver.TCPServer.__init__:
            RequestHandlerClass, bind_and_activate = RequestHandlerClass[:1], RequestHandlerClass[1]
        refuse_in_an_import()
        _refuse_what_is_not_called(type(self))
        self._serves = False
        self._leaving: list[Server] = []
        self._stop_asked = threading.Event()
        self._left = threading.Event()
        construct(server_address, *RequestHandlerClass, bind_and_activate=False, **others)
        try:
            self._new_server()  # tells of mistakes now
            if bind_and_activate:
                self.server_bind()
                self.server_activate()
        except BaseException:
            self.server_close()
            raise

    def __setattr__(self, name: str, value: object) -> None:
        """As for any object, but for what would then be without effect.

        Raises:
            ConfigurationError: it would be.
        """
        if name == "socket":
            refuse_wrapped(value)
        if name in _NOT_CALLED:
            raise ConfigurationError([_not_called(f"{type(self).__qualname__}.{name}")])
        if name in _WITHOUT_EFFECT and value is not None:
            raise ConfigurationError([f"{type(self).__qualname__}.{name}: {_WITHOUT_EFFECT[name]}"])
        if name in CALLED:
            as_passed(self, name, value)
        if name in _TOLD_AT_THE_START and vars(self).get("_serves"):
            raise ConfigurationError(
                [f"{type(self).__qualname__}.{name}: cannot be changed while the server runs; set it before"]
            )
        super().__setattr__(name, value)

    def _new_server(self) -> Server:
        settings: dict[str, Any] = {"mode": self._mode, "max_connections": self.max_children} | dict(
            self.tcppar_settings
        )
        handler_class: Any = self.RequestHandlerClass
        while isinstance(handler_class, partial):
            handler_class = handler_class.func
        refuse_what_is_no_class(handler_class)
        server = Server(self.socket, handler=handler_class, **settings)
        if state := state_of(self, _OURS, _APART):
            server._variables[OF_A_SERVER] = state
        return server

    if not TYPE_CHECKING:  # to whom every attribute would be there

        def __getattr__(self, name: str) -> Any:
            """Asked only for what is not here: of http.server's attributes, and in a request's copy."""
            if (reason := server_copy.explain(self, name)) is not None:
                raise AttributeError(reason)
            if name in request_handlers.OF_ADDRESS or server_copy.is_copy(self):
                return request_handlers.named_by_address(self, name)
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Called when a request handler has failed: its traceback is written to the log, with the connection's id."""
        raise  # noqa: PLE0704 - what is being handled

    def serve_forever(self, poll_interval: float = 0.5) -> None:
        """Serve until `shutdown`, or until the server's process is stopped.

        Args:
            poll_interval: seconds between two calls of `service_actions`, and between two checks of the process.

        Raises:
            ConfigurationError: the request handler class cannot be imported.
            SystemRefused: the server's process cannot be started, or was ended by force.
        """
        self._left.clear()
        try:
            if not self._stop_asked.is_set():
                self._serve(poll_interval)
        finally:
            self._stop_asked.clear()
            self._left.set()

    def _serve(self, poll_interval: float) -> None:
        server = self._new_server()
        server.start()
        self._serves = True
        try:
            while not self._stop_asked.wait(poll_interval):
                if not server.running:
                    server.wait()
                    return
                self.service_actions()
        finally:
            self._serves = False
            server.send_signal(Signals.SIGTERM)
            self._leaving.append(server)

    def shutdown(self) -> None:
        """Let `serve_forever`, in another thread, return; as in socketserver this waits for it, but not for requests.

        They continue, and for some tenths of a second the server still serves clients who are already in the queue.
        """
        self._stop_asked.set()
        self._left.wait()

    def server_close(self) -> None:
        """Stop listening, and wait for requests that are still being served; see `block_on_close`.

        Raises:
            SystemRefused: the server's process was ended by force.
        """
        super().server_close()
        while self.block_on_close and self._leaving:
            self._leaving.pop().wait()

    def handle_request(self) -> NoReturn:
        """Not available: the server's process accepts clients as they come, and cannot be asked for a single one.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            "handle_request: other processes serve requests as they arrive; use serve_forever and shutdown"
        )


def _refuse_what_is_not_called(kind: type[socketserver.TCPServer]) -> None:
    mistakes = []
    for name in (*_NOT_CALLED, _MADE_BY):
        owner = next((ancestor for ancestor in kind.__mro__ if name in vars(ancestor)), socketserver.BaseServer)
        if owner.__module__ == socketserver.__name__ and owner.__name__.endswith("MixIn"):
            mistakes.append(
                f"{kind.__qualname__}: leave out {owner.__name__}, because every request has its own process anyway"
            )
        elif owner.__module__ != socketserver.__name__ and name != _MADE_BY:
            mistakes.append(f"{kind.__qualname__}: {_not_called(f'{owner.__qualname__}.{name}')}")
    mistakes += [
        f"{kind.__qualname__}.{name}: {reason}"
        for name, reason in _WITHOUT_EFFECT.items()
        if any(name in vars(ancestor) for ancestor in kind.__mro__ if ancestor.__module__ != socketserver.__name__)
    ]
    if mistakes:
        raise ConfigurationError(list(dict.fromkeys(mistakes)))


def _not_called(method: str) -> str:
    return (
        f"{method} would not be called, because requests are accepted by another process; move what it does to "
        "verify_request or process_request, or to the request handler's setup, handle or finish"
    )


class PoolTCPServer(ForkingTCPServer):
    """Like ForkingTCPServer, but processes are used again: each serves one request after another.

    The setting `workers` says how many there are: `tcppar_settings = {"workers": "4-16"}`.
    """

    _mode = HandlerMode.POOL


class ForkingUnixStreamServer(ForkingTCPServer):
    """ForkingTCPServer on a Unix socket. As in socketserver, its file must not exist yet, and is not removed."""

    address_family = AF_UNIX


class PoolUnixStreamServer(PoolTCPServer):
    """PoolTCPServer on a Unix socket; see ForkingUnixStreamServer."""

    address_family = AF_UNIX


_OURS = (ForkingTCPServer, PoolTCPServer, ForkingUnixStreamServer, PoolUnixStreamServer)
# Attributes that belong to the program's process.
_APART = (
    *("socket", "_serves", "_leaving", "_stop_asked", "_left"),
    *("_BaseServer__is_shut_down", "_BaseServer__shutdown_request"),
)

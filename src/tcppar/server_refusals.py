"""What a program that serves is refused, because it would not do what is meant."""

import socket
import sys
from types import FrameType

from tcppar.errors import ConfigurationError

# What imports handlers, in a process of the server's. Not imported here: a program that serves does not need it.
_IMPORTER = "tcppar.spawner.loading"
_TLS_IN_A_HANDLER = """in the handler's module

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain("certificate.pem", "key.pem")

then, in a function of a Connection, talk by `tls`

    with context.wrap_socket(conn.socket, server_side=True) as tls:

or, in a request handler class,

    def setup(self):
        self.request = context.wrap_socket(self.request, server_side=True)
        super().setup()

    def finish(self):
        super().finish()
        self.request.close()
"""


def refuse_in_an_import() -> None:
    """Refuse to start a server while a server imports this program to find its handler: it would never come to an end.

    Raises:
        ConfigurationError: that is so.
    """
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__") == _IMPORTER:
            raise ConfigurationError(
                ['importing the handler starts a server: start it under `if __name__ == "__main__":`']
            )
        frame = frame.f_back


def refuse_wrapped(listener: object) -> None:
    """Refuse a listener of which the server would use the bare socket, and so serve clear text.

    Raises:
        ConfigurationError: it is no plain socket.
    """
    if type(listener) is socket.socket:
        return
    kind = f"{type(listener).__module__}.{type(listener).__qualname__}"
    raise ConfigurationError(
        [
            f"socket: {kind} is not a plain socket: the server, a separate process, gets only the bare socket, and "
            "would serve clear text. Pass the plain socket, and start TLS in the process of each connection: "
            + _TLS_IN_A_HANDLER
        ]
    )


def refuse_what_is_no_socket(address: object) -> None:
    """Refuse an address that is neither text nor a socket.

    Raises:
        ConfigurationError: it is so.
    """
    if not hasattr(address, "fileno"):
        expected = 'expected a string such as "127.0.0.1:7000", or a socket'
        raise ConfigurationError([f"settings: listen: {address!r}: {expected}"])


def refuse_what_is_no_class(handler: object) -> None:
    """Refuse a function in the place of a request handler class of socketserver's.

    Raises:
        ConfigurationError: it is no class.
    """
    if not isinstance(handler, type):
        name = getattr(handler, "__qualname__", None) or repr(handler)
        expected = "expected a request handler class of socketserver; a function is a handler of tcppar.Server"
        raise ConfigurationError([f"RequestHandlerClass: {name} is not a class: {expected}"])

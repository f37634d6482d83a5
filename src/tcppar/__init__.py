"""tcppar: a process of its own for every TCP connection."""

# Type checkers know the name (PEP 484). typing.TYPE_CHECKING would cost every process of a server a megabyte.
TYPE_CHECKING = False

__version__ = "0.1.0"

if TYPE_CHECKING:
    from tcppar.child.async_connection import AsyncConnection
    from tcppar.child.connection import Connection
    from tcppar.child.errors import ConversationError, LimitExceeded, PeerGone, TimedOut
    from tcppar.child.hooks import on_start, on_stop
    from tcppar.errors import ConfigurationError, SystemRefused, TcpparError
    from tcppar.server import Server, serve
    from tcppar.socketservers import ForkingTCPServer, ForkingUnixStreamServer, PoolTCPServer, PoolUnixStreamServer

_HOMES = {
    "AsyncConnection": "tcppar.child.async_connection",
    "Connection": "tcppar.child.connection",
    "ConfigurationError": "tcppar.errors",
    "ConversationError": "tcppar.child.errors",
    "ForkingTCPServer": "tcppar.socketservers",
    "ForkingUnixStreamServer": "tcppar.socketservers",
    "LimitExceeded": "tcppar.child.errors",
    "PeerGone": "tcppar.child.errors",
    "PoolTCPServer": "tcppar.socketservers",
    "PoolUnixStreamServer": "tcppar.socketservers",
    "Server": "tcppar.server",
    "SystemRefused": "tcppar.errors",
    "TcpparError": "tcppar.errors",
    "TimedOut": "tcppar.child.errors",
    "on_start": "tcppar.child.hooks",
    "on_stop": "tcppar.child.hooks",
    "serve": "tcppar.server",
}

__all__ = [
    "AsyncConnection",
    "ConfigurationError",
    "Connection",
    "ConversationError",
    "ForkingTCPServer",
    "ForkingUnixStreamServer",
    "LimitExceeded",
    "PeerGone",
    "PoolTCPServer",
    "PoolUnixStreamServer",
    "Server",
    "SystemRefused",
    "TcpparError",
    "TimedOut",
    "__version__",
    "on_start",
    "on_stop",
    "serve",
]


def __getattr__(name: str) -> object:
    # Loaded when they are asked for: every process of a server imports this package, and its memory counts many times.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

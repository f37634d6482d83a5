"""tcppar: a process of its own for every TCP connection."""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from tcppar.child.async_connection import AsyncConnection
    from tcppar.child.connection import Connection
    from tcppar.errors import (
        ConfigurationError,
        ConversationError,
        LimitExceeded,
        PeerGone,
        SystemRefused,
        TcpparError,
        TimedOut,
    )
    from tcppar.server import Server, serve
    from tcppar.socketservers import ForkingTCPServer, ForkingUnixStreamServer, PoolTCPServer, PoolUnixStreamServer

_HOMES = {
    "AsyncConnection": "tcppar.child.async_connection",
    "Connection": "tcppar.child.connection",
    "ConfigurationError": "tcppar.errors",
    "ConversationError": "tcppar.errors",
    "ForkingTCPServer": "tcppar.socketservers",
    "ForkingUnixStreamServer": "tcppar.socketservers",
    "LimitExceeded": "tcppar.errors",
    "PeerGone": "tcppar.errors",
    "PoolTCPServer": "tcppar.socketservers",
    "PoolUnixStreamServer": "tcppar.socketservers",
    "Server": "tcppar.server",
    "SystemRefused": "tcppar.errors",
    "TcpparError": "tcppar.errors",
    "TimedOut": "tcppar.errors",
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
    "serve",
]


def __getattr__(name: str) -> object:
    # Loaded when they are asked for: every process of a server imports this package, and its memory counts many times.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""The socket of a connection, for handlers that want it bare: what it raises of the client can be told from the rest.

A handler talks to others too, to a database, say, and their sockets raise the same errors. Whose an error was does not
stand in it. So this socket leaves a mark in what it raises.
"""

from __future__ import annotations

import socket
import sys
from functools import wraps

from tcppar.child.conversation import GONE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, SupportsIndex

_RECEIVING = ("recv", "recv_into", "recvfrom", "recvfrom_into", "recvmsg", "recvmsg_into")
_SENDING = ("send", "sendall", "sendto", "sendmsg", "sendfile", "shutdown")
_MARK = "_tcppar_of_the_client"


class ClientSocket(socket.socket):
    """As socket.socket. What it is wrapped in, a file object, say, or an asyncio transport, raises what it raises."""

    __slots__ = ()

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        # multiprocessing knows only socket.socket itself, which nobody else can pickle.
        reduction: Any = sys.modules.get("multiprocessing.reduction")
        if reduction is None:
            return super().__reduce_ex__(protocol)
        return _received, (self.family, self.type, self.proto, reduction.DupFd(self.fileno()))


def _received(family: int, kind: int, proto: int, sent: Any) -> socket.socket:
    return socket.socket(family, kind, proto, sent.detach())


def is_marked(error: BaseException) -> bool:
    """Whether a client's socket has raised it, because the client is gone or lets us wait."""
    return hasattr(error, _MARK)


def _marking(call: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(call)
    def called(*arguments: Any, **named: Any) -> Any:
        try:
            return call(*arguments, **named)
        except OSError as error:
            if error.errno in GONE or isinstance(error, TimeoutError):
                setattr(error, _MARK, True)
            raise

    return called


for _name in (*_RECEIVING, *_SENDING, "getpeername"):
    setattr(ClientSocket, _name, _marking(getattr(socket.socket, _name)))

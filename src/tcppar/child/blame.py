"""Whose doing an error is that ends a conversation: the client's, which is one line in the log, or the handler's.

A handler has other connections too, and what their sockets raise looks the same. The client's are: what a Connection
raises; what its socket has marked (`client_socket.py`); and what comes out of TLS that is spoken as the server.
"""

from __future__ import annotations

import sys

from tcppar.child.errors import LimitExceeded, PeerGone, TimedOut
from tcppar.child.process import text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def of_client(error: BaseException) -> str | None:
    """What the client has done, as the end of a sentence; None if it is not, or not only, the client's doing.

    Tasks raise several errors at once (ExceptionGroup).
    """
    if isinstance(error, BaseExceptionGroup):
        accounts = [of_client(inner) for inner in error.exceptions]
        told = [account for account in dict.fromkeys(accounts) if account is not None]
        return None if None in accounts else "; ".join(told)
    if isinstance(error, PeerGone):
        what = "is gone"
    elif isinstance(error, TimedOut):
        what = "took too long"
    elif isinstance(error, LimitExceeded):
        what = "sent too much"
    elif (raised := _by_its_socket(error)) is not None:
        what = raised
    else:
        return None
    return f"{what}: {text_of(error)}"


def _by_its_socket(error: BaseException) -> str | None:
    if not isinstance(error, OSError):
        return None
    own_socket: Any = sys.modules.get("tcppar.child.client_socket")
    if (own_socket is None or not own_socket.is_marked(error)) and not _is_of_its_tls(error):
        return None
    if isinstance(error, TimeoutError) and error.errno is None:
        return "took too long"
    ssl: Any = sys.modules.get("ssl")
    if ssl is None or not isinstance(error, ssl.SSLError) or isinstance(error, _ends_of(ssl)):
        return "is gone"
    return "failed in TLS"


def _ends_of(ssl: Any) -> tuple[type[OSError], ...]:
    """How TLS tells that the other side has left."""
    return ssl.SSLEOFError, ssl.SSLZeroReturnError


def _is_of_its_tls(error: OSError) -> bool:
    """Whether it comes out of a call of an SSLSocket that is the server of its connection: in a handler that is the
    client's. (The socket beneath was taken out of its object, and so marks nothing.)
    """
    ssl: Any = sys.modules.get("ssl")
    trace = error.__traceback__ if ssl is not None else None
    while trace is not None:
        frame = trace.tb_frame
        if frame.f_globals.get("__name__") == "ssl":
            called = frame.f_locals.get("self")
            if isinstance(called, ssl.SSLSocket) and called.server_side:
                return True
        trace = trace.tb_next
    return False

"""STARTTLS, and which connections get TLS: at once, later, or never."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from tcppar.tcpx import sockets, status
from tcppar.tcpx.result import Request, Result
from tcppar.tcpx.symbols import Flag
from tcppar.tcpx.waiting import Wait, WouldBlock

if TYPE_CHECKING:
    from tcppar.tcpx.sockets import StartTls


def has_asked(request: Request) -> bool:
    """Whether the connection is to have TLS, now or later."""
    return bool(request.flags & (Flag.TCPXFLG_TLS | Flag.TCPXFLG_STARTTLS))


def as_client(request: Request) -> StartTls:
    """How to begin TLS with a server. The buffer is the list of ciphers.

    Raises:
        OSError: there is no such file of authorities, or no such cipher.
    """
    from tcppar.tcpx import tls  # with OpenSSL, which takes some milliseconds

    context = tls.client_context(request.tls, bytes(request.buffer).decode(errors="replace"))
    hostname = request.hostname
    return lambda sockport: tls.TlsStream(sockport, context, server_side=False, hostname=hostname)


def as_server(request: Request) -> StartTls:
    """How to begin TLS with a client.

    Raises:
        OSError: EOPNOTSUPP: the caller has given no context, and so no certificate.
    """
    import ssl

    from tcppar.tcpx import tls

    context = request.tls
    if not isinstance(context, ssl.SSLContext):
        raise status.error(errno.EOPNOTSUPP, "TLS for a server needs tls=, a context with its certificate")
    return lambda sockport: tls.TlsStream(sockport, context, server_side=True)


def begin(sockport: int) -> None:
    """Let a connection have TLS from now on; the handshake is the first thing that whatever comes next will do.

    A connection whose handshake fails never goes back to clear text: every call on it fails as the handshake did.
    """
    entry = sockets.remember(sockport)
    assert entry.start_tls is not None
    stream = entry.stream = entry.start_tls(sockport)
    entry.start_tls = None

    def shake_hands() -> None:
        stream.handshake()
        entry.connecting = None

    entry.connecting = shake_hands


def start_tls(request: Request) -> Result:
    """STARTTLS: turn an open connection to encrypted, by a handshake within the timer (0: no limit).

    The connection was opened with TLS+STARTTLS; or it is any, and a context is given, whose kind says on which side we
    are. So a child can do it for a connection that it has inherited.

    Raises:
        OSError: EOPNOTSUPP: it is no such connection; EPROTO with the reason; ETIMEDOUT: call it again to go on.
    """
    entry = sockets.known(request.sockport)
    if entry is None or not entry.has_tls:
        entry = sockets.remember(request.sockport)
        entry.start_tls = _by_context(request)
    if entry.start_tls is not None:
        sockets.stream_of(request.sockport)  # is it connected?
        begin(request.sockport)
    try:
        Wait(request.timer or None, request.interrupted).until_done(lambda: sockets.stream_of(request.sockport))
    except WouldBlock:
        raise status.error(errno.ETIMEDOUT) from None
    return Result(0, sockport=request.sockport, hostname=request.hostname)


def _by_context(request: Request) -> StartTls:
    if request.tls is None:
        raise status.error(errno.EOPNOTSUPP, "the connection was not opened with TLS+STARTTLS")
    import ssl

    is_servers = getattr(request.tls, "protocol", None) == ssl.PROTOCOL_TLS_SERVER
    return as_server(request) if is_servers else as_client(request)

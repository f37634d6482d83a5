"""TLS over a connection (RFC 8446), by the system's OpenSSL.

TLS here only turns bytes into bytes (ssl.MemoryBIO); the socket is ours to receive from and to send to. So one wait,
with its time limit and its signals, is enough for both kinds of connections, and the socket's own mode does not matter.
"""

from __future__ import annotations

import errno
import ssl
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

from tcppar.tcpx import status
from tcppar.tcpx.sockets import PlainStream
from tcppar.tcpx.waiting import READABLE, WRITABLE, WouldBlock

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

Done = TypeVar("Done")

_CHUNK = 65536
_RECORD = 16384
"""The most that one record can carry (RFC 8446, section 5.1)."""
_MOST_AHEAD = 4 * _RECORD
"""How much is decrypted before anybody asks for it. The rest waits in the system, which makes the peer wait too."""


def client_context(tls: ssl.SSLContext | str | os.PathLike[str] | None, ciphers: str) -> ssl.SSLContext:
    """What a client's TLS is made with. By default the server's certificate and its name are verified.

    Args:
        tls: a context, which has the say in everything; or the file (PEM) of the authorities that are trusted; None
            for the system's.
        ciphers: OpenSSL's list of ciphers for TLS 1.2 and below; empty for its default.

    Raises:
        OSError: no such file; EPROTO for no such ciphers, or no certificates in the file.
    """
    if isinstance(tls, ssl.SSLContext):
        return tls
    with _reasons_told():
        context = ssl.create_default_context(cafile=tls)
        # An end that TLS was not told of may be one that somebody else has made: Python's default lets it pass.
        context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
        if ciphers:
            context.set_ciphers(ciphers)
    return context


@contextmanager
def _reasons_told() -> Iterator[None]:
    """Turn OpenSSL's errors into EPROTO, with a text for people. Those of the system pass, and the wish to read."""
    try:
        yield
    except ssl.SSLWantReadError:
        raise
    except ssl.SSLCertVerificationError as error:
        raise status.error(errno.EPROTO, f"certificate verify failed: {error.verify_message}") from error
    except ssl.SSLError as error:
        reason = getattr(error, "reason", "") or str(error.args[-1])
        raise status.error(errno.EPROTO, f"TLS: {reason.replace('_', ' ').lower()}") from error


class TlsStream:
    """The bytes of a connection with TLS (a Stream of sockets.py).

    Args:
        sockport: the connection.
        server_side: whether we are the server.
        hostname: the server's name, for a client.
    """

    def __init__(self, sockport: int, context: ssl.SSLContext, *, server_side: bool, hostname: str = "") -> None:
        self._sockport = sockport
        self._socket = PlainStream(sockport)
        self._received, self._to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = None if server_side else hostname
        with _reasons_told():
            self._tls = context.wrap_bio(self._received, self._to_send, server_side, server_hostname=name)
        self._decrypted = bytearray()
        self._encrypted = b""
        self._failure: OSError | None = None
        self._ended = False

    def handshake(self) -> None:
        """Go on with the handshake.

        Raises:
            WouldBlock: the peer's part is missing.
            OSError: EPROTO if it failed, with the reason; the peer was told. Or the connection broke.
        """
        self._act(self._tls.do_handshake)
        self.flush()

    def _act(self, action: Callable[[], Done]) -> Done:
        """Let TLS act, with all that it wants to receive for that. After a failure it never acts again."""
        if self._failure is not None:
            raise self._failure.with_traceback(None)
        try:
            return self._try_to(action)
        except WouldBlock:
            raise
        except OSError as failure:
            self._failure = failure
            raise
        finally:
            self._flush_what_goes()  # in a failure that is the alert which tells the peer

    def _try_to(self, action: Callable[[], Done]) -> Done:
        while True:
            try:
                with _reasons_told():
                    return action()
            except ssl.SSLWantReadError:
                self._fill()

    def _fill(self) -> None:
        self._flush_what_goes()  # the peer may wait for it
        try:
            data = self._socket.receive(_CHUNK)
        except WouldBlock:
            raise WouldBlock({self._sockport: READABLE | (WRITABLE if self._encrypted else 0)}) from None
        if data:
            self._received.write(data)
        else:
            self._received.write_eof()

    def receive(self, size: int) -> bytes:
        """As in Stream."""
        if not self.has_data():
            return b""
        piece = bytes(self._decrypted[:size])
        del self._decrypted[:size]
        return piece

    def has_data(self) -> bool:
        """As in Stream. A peer that only has sent what TLS itself needs has sent nothing."""
        if not self._decrypted:
            self._decrypt()
        return bool(self._decrypted)

    def quantity(self) -> int:
        """As in Stream; of the bytes that wait in the system, so many as fit into some records."""
        if not self.has_data():
            return 0
        with suppress(OSError):  # which comes when all is received
            self._decrypt()
        return len(self._decrypted)

    def _decrypt(self) -> None:
        """Decrypt what there is.

        Raises:
            WouldBlock: it was all, and nothing is left.
            OSError: a failure, which is told only when all that came before it is received.
        """
        try:
            while not self._ended and len(self._decrypted) < _MOST_AHEAD:
                piece = self._act(lambda: self._tls.read(_RECORD))
                self._ended = not piece
                self._decrypted += piece
        except OSError:
            if not self._decrypted:
                raise

    def send(self, data: memoryview) -> int:
        """As in Stream. What is encrypted counts as sent, for it cannot be taken back."""
        self.flush()
        return self._act(lambda: self._tls.write(data[:_RECORD]))

    def flush(self) -> None:
        """As in Stream."""
        self._encrypted += self._to_send.read()
        while self._encrypted:
            self._encrypted = self._encrypted[self._socket.send(memoryview(self._encrypted)) :]

    def _flush_what_goes(self) -> None:
        with suppress(OSError):  # whoever has to know of a broken connection will read or write again
            self.flush()

    def end_writing(self) -> None:
        """Send the alert that ends our direction (close_notify), if it can be sent at once."""
        # What was received must be out of the way, for unwrap looks there for the peer's alert; whether that comes is
        # no matter of ours.
        with suppress(ssl.SSLError):
            while piece := self._tls.read(_RECORD):
                self._decrypted += piece
        with suppress(ssl.SSLError):
            self._tls.unwrap()
        self._flush_what_goes()

"""The orderly end of a connection: its client gets the whole reply, though the program has left input unread.

A system that closes a connection with something unread resets it, and the client's system then drops what it has not
received (RFC 1122, 4.2.2.13). So our copy outlives the child: first the end of the stream is sent, behind the reply;
what the client still sends is thrown away; and the connection is closed when the client has closed it, or has had
time enough.
"""

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from tcppar.net import calls

if TYPE_CHECKING:
    from tcppar.supervisor.core import Core

_waste = bytearray(65536)


class Lingering:
    """Connections whose child has ended, and whose client is still there."""

    def __init__(self, core: "Core") -> None:
        self._core = core
        self._tails: set[_Tail] = set()

    def __len__(self) -> int:
        return len(self._tails)

    def begin(self, descriptor: int, seconds: float) -> None:
        """Take a connection to its end; it is closed here.

        Args:
            seconds: how long the client has to receive what is left of the reply, and to close.
        """
        sock = socket.socket(fileno=descriptor)
        try:
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the client is gone
        if _read_away(sock):
            calls.close_shared(sock.detach())
        else:
            self._tails.add(_Tail(sock, self._core, seconds, self._tails.discard))

    def give_up(self) -> None:
        """Close them all."""
        for tail in list(self._tails):
            tail.close()


class _Tail:
    """One of them."""

    def __init__(self, sock: socket.socket, core: "Core", seconds: float, on_close: Callable[["_Tail"], None]) -> None:
        self._socket = sock
        self._core = core
        self._on_close = on_close
        self.fileno = sock.fileno
        self._timer = core.timers.at(core.later(seconds), self._lose_patience)
        try:
            core.waiter.register(self)
        except OSError:
            pass  # no memory to watch it with: it has its time all the same

    def on_ready(self) -> None:
        """Something has come, or the end."""
        if _read_away(self._socket):
            self.close()

    def _lose_patience(self) -> None:
        _read_away(self._socket)
        self.close()

    def close(self) -> None:
        """Close it. What of the reply is on the way still arrives, unless something is unread."""
        self._timer.cancel()
        self._core.waiter.unregister(self)
        calls.close_shared(self._socket.detach())
        self._on_close(self)


def _read_away(sock: socket.socket) -> bool:
    """Read once, for nobody; whether that was the end of the stream, or the client is gone."""
    try:
        # The flag holds for this call alone: what the child has left behind may use the connection still.
        return not sock.recv_into(_waste, 0, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True

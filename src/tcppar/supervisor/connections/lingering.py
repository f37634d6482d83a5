"""The orderly end of a connection: its client gets the whole reply, though the program has left input unread.

A system that closes a connection with something unread resets it, and the client's system then drops what it has not
received (RFC 1122, 4.2.2.13). So our copy outlives the child. When nobody of its processes is left (remaining.py), the
end of the stream is sent, behind the reply; what the client still sends is thrown away; and the connection is closed
when the client has closed it, or has had time enough. Processes that do not end are waited for as long: what they write
after that, they write to nobody.

Each costs a descriptor, and clients decide how many there are: they need only stay. So there is an upper limit, beyond
which the oldest, who has had the most time, has had enough.
"""

import socket
from collections.abc import Callable, Iterator

from tcppar.net import calls
from tcppar.supervisor.connections.remaining import Remaining, Searcher
from tcppar.supervisor.core import Core
from tcppar.supervisor.snapshot import LingeringRecord, inode_of

_waste = bytearray(65536)


class Lingering:
    """Connections whose child has ended, and whose client, or another of their processes, is still there.

    Attributes:
        most: how many there may be.
    """

    def __init__(self, core: Core, searcher: Searcher, most: int) -> None:
        self.most = most
        self._core = core
        self._searcher = searcher
        self._tails: dict[_Tail, None] = {}  # the oldest first

    def __len__(self) -> int:
        return len(self._tails)

    def begin(self, descriptor: int, seconds: float, remaining: Remaining) -> None:
        """Take a connection to its end; it is closed here.

        Args:
            descriptor: our copy.
            seconds: how long other processes may go on to write, and then, how long the client has to receive what is
                left of the reply, and to close.
            remaining: these processes.
        """
        tail = _Tail(socket.socket(fileno=descriptor), self._core, seconds, self._tails.pop)
        self._tails[tail] = None
        tail.wait_for(remaining)
        while len(self._tails) > self.most:
            next(iter(self._tails)).lose_patience()

    def go_on(self, descriptor: int, seconds: float, leader: int) -> None:
        """Take up what a supervisor before this one has left.

        Args:
            leader: the process that had it; 0 if the end of the stream was sent.
        """
        self.begin(
            descriptor,
            seconds,
            Remaining(self._core, self._searcher, leader, inode_of(descriptor), searched_first=True),
        )

    def describe(self) -> Iterator[LingeringRecord]:
        """What a next supervisor must know of those whose processes may go on to write. The others show what they are:
        the end of their stream was sent.
        """
        for tail in self._tails:
            if tail.remaining is not None:
                yield LingeringRecord(tail.fileno(), inode_of(tail.fileno()), tail.remaining.leader)

    def give_up(self) -> None:
        """Close them all."""
        for tail in list(self._tails):
            tail.close()


class _Tail:
    """One of them.

    Attributes:
        remaining: those who may go on to write; None when the end of the stream was sent.
    """

    def __init__(self, sock: socket.socket, core: Core, seconds: float, on_close: Callable[["_Tail"], object]) -> None:
        self._socket = sock
        self._core = core
        self._seconds = seconds
        self._on_close = on_close
        self.fileno = sock.fileno
        self.remaining: Remaining | None = None

    def wait_for(self, remaining: Remaining) -> None:
        """Send the end of the stream when nobody is left who writes."""
        if remaining.is_nobody:
            self._send_end()
            return
        self.remaining = remaining
        self._core.structure_changed()
        self._latest = self._core.later(self._seconds)
        self._look_later(remaining)

    def _look_later(self, remaining: Remaining) -> None:
        at = min(self._core.later(remaining.pause()), self._latest)
        self._timer = self._core.timers.at(at, self._look)

    def _look(self) -> None:
        remaining = self.remaining
        assert remaining is not None
        if self._core.now < self._latest and not remaining.is_nobody:
            self._look_later(remaining)
        else:
            self.remaining = None
            self._core.structure_changed()
            self._send_end()

    def _send_end(self) -> None:
        self._timer = self._core.timers.at(self._core.later(self._seconds), self.lose_patience)
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the client is gone
        if _read_away(self._socket):
            self.close()
            return
        try:
            self._core.waiter.register(self)
        except OSError:
            pass  # no memory to watch it with: it has its time all the same

    def on_ready(self) -> None:
        """Something has come, or the end."""
        if _read_away(self._socket):
            self.close()

    def lose_patience(self) -> None:
        """Close it though the client is still there."""
        _read_away(self._socket)
        self.close()

    def close(self) -> None:
        """Close it. What of the reply is on the way still arrives, unless something is unread."""
        self._timer.cancel()
        if self.remaining is not None:
            self.remaining = None
            self._core.structure_changed()
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

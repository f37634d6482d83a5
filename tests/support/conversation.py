"""What tests of both kinds of connection need: pairs of sockets, peers that misbehave, children that end."""

import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

SHORT = 0.05
"""A time limit that is to pass, in seconds."""
LONG = 30.0
"""A time limit that is not to pass, in seconds."""
MUCH = bytes(range(256)) * 65536
"""16 MB: more than any socket holds."""


def connected(family: str) -> tuple[socket.socket, socket.socket]:
    """Both ends of a new connection, "tcp" or "unix"."""
    if family == "unix":
        return socket.socketpair()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        return listener.accept()[0], client


def receive_all(sock: socket.socket) -> bytes:
    """Everything up to the end of the stream."""
    pieces = []
    while piece := sock.recv(1 << 20):
        pieces.append(piece)
    return b"".join(pieces)


def reset(sock: socket.socket) -> None:
    """End a TCP connection by a reset, as one does whose process crashed with data unread."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@contextmanager
def takes(least: float) -> Iterator[None]:
    """The block takes as long as a time limit says, and not much longer."""
    begin = time.monotonic()
    yield
    assert least <= time.monotonic() - begin < least + 5


class Children:
    """Children of this thread, the main one, that end when told to; each end is a SIGCHLD with a handler in Python.

    The main thread must have started them: Linux sends it to the thread that did.
    """

    def __init__(self, count: int) -> None:
        self.left = [self._start() for _ in range(count)]
        self.signals = 0

    @staticmethod
    def _start() -> tuple[int, int]:
        ours, its = os.pipe()
        pid = os.posix_spawn("/bin/cat", ["cat"], {}, file_actions=[(os.POSIX_SPAWN_DUP2, ours, 0)])
        os.close(ours)
        return pid, its

    def note(self, number: int, frame: object) -> None:
        """The handler of SIGCHLD."""
        self.signals += 1

    def end_one(self) -> None:
        """End one, in the middle of whatever the main thread does; its handler runs soon, or once for several."""
        pid, its = self.left.pop()
        os.close(its)
        assert os.waitpid(pid, 0)[1] == 0

    def end_until(self, over: threading.Event) -> None:
        """End one after the other until it is over, one in some milliseconds."""
        while self.left and not over.wait(SHORT / 10):
            self.end_one()

    def end_all(self) -> None:
        """End those that are left."""
        for pid, its in self.left:
            os.close(its)
            os.waitpid(pid, 0)


@contextmanager
def children(count: int) -> Iterator[Children]:
    """Children that end in the block, or after it."""
    made = Children(count)
    before = signal.signal(signal.SIGCHLD, made.note)
    try:
        yield made
    finally:
        made.end_all()
        signal.signal(signal.SIGCHLD, before)

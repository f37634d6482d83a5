"""A connection whose last descriptor takes long to close (SO_LINGER, socket(7))."""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

LINGER = 10
"""For how many seconds: longer than a test that goes well takes."""


@contextmanager
def lingering() -> Iterator[socket.socket]:
    """One end, with more to send than the other end takes."""
    with socket.socket() as listener, socket.socket() as end:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 17)
        end.connect(listener.getsockname())
        other, _ = listener.accept()
        with other:
            try:
                while True:
                    end.send(bytes(1 << 16), socket.MSG_DONTWAIT)
            except BlockingIOError:
                pass
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, LINGER))
            yield end

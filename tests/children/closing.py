"""Closes by the named means, in a process whose alarm is nobody else's, and says for how many seconds that took.

A connection whose client takes nothing, and whose owner asked to linger; then says how the alarm ends.
"""

import os
import signal
import socket
import struct
import sys
import time

from tcppar.net import calls

PATIENCE = 30.0

means = getattr(calls, sys.argv[1])
means.catch_alarm()
with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()):
    # Made in this way, nothing asks for its options.
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, listener._accept()[0])  # type: ignore[attr-defined]
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 100))
    connection.setblocking(False)
    try:
        while True:
            connection.send(bytes(1 << 16))
    except BlockingIOError:
        pass
    descriptor = connection.detach()
    started = time.monotonic()
    means.close_shared(descriptor)
    print(time.monotonic() - started)

try:
    os.fstat(descriptor)
except OSError:
    print("closed")
try:
    means.close_shared(descriptor)
except OSError:
    print("an error")

deadline = time.monotonic() + PATIENCE
while signal.getitimer(signal.ITIMER_REAL) != (0.0, 0.0) and time.monotonic() < deadline:
    signal.sigtimedwait([], 0.01)
print("no alarm any more" if time.monotonic() < deadline else "it goes on")

"""Does what its client asks for: shuts descriptor 2 down, if it is a socket, or writes the line to it."""

import os
import socket

line = os.read(0, 1000)
if line == b"shut down\n":
    try:
        socket.socket(fileno=2).shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # no socket
else:
    os.write(2, line)

"""Says hello; then, if the client asks for it, has more to say than fits, and wishes to linger for it."""

import os
import socket
import struct

os.write(1, b"hello\n")
if os.read(0, 100) == b"linger\n":
    connection = socket.socket(fileno=1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 100))
    connection.setblocking(False)
    try:
        while True:
            connection.send(bytes(1 << 16))
    except BlockingIOError:
        os._exit(0)

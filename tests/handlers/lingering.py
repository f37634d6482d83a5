"""Says hello; then, if the client asks for it, has more to say than fits, and wishes to linger for it."""

import os
import socket
import struct

import tcppar


def handle(conn: tcppar.Connection) -> None:
    conn.write(b"hello\n")
    if conn.read() == b"linger\n":
        conn.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 100))
        os.set_blocking(conn.fileno(), False)
        try:
            while True:
                os.write(conn.fileno(), bytes(1 << 16))
        except BlockingIOError:
            pass

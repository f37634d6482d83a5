"""What is served when a server is tested: it says its connection's id and its process, then answers what it reads.

The spawner loads this file by its path, so that what tests need besides is not loaded too.
"""

import os

import tcppar


def handle(conn: tcppar.Connection) -> None:
    """As a handler. A client that leaves in the middle is no failure of the server's."""
    try:
        conn.write(f"{conn.id} {os.getpid()}\n".encode())
        while data := conn.read():
            conn.write(data)
    except tcppar.PeerGone:
        pass

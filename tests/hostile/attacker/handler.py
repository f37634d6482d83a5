"""The attacker as a handler: it greets its client, and echoes what it reads, unless that orders an attack."""

import os
import sys

import tcppar

sys.path.insert(0, __file__.removesuffix("/tests/hostile/attacker/handler.py"))
from tests.hostile.attacker import every
from tests.hostile.attacker.base import ORDER, Mode


def fork(conn: tcppar.Connection) -> None:
    """In a process for this connection alone."""
    _serve(conn, Mode.FORK)


def pool(conn: tcppar.Connection) -> None:
    """In a worker."""
    _serve(conn, Mode.POOL)


def _serve(conn: tcppar.Connection, mode: Mode) -> None:
    try:
        conn.write(f"{conn.id} {os.getpid()}\n".encode())
        while data := conn.read():
            if data.startswith(ORDER):
                every.obey(mode, conn.socket.fileno(), data)
            conn.write(data)
    except tcppar.PeerGone:
        pass

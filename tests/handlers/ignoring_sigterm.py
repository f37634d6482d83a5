"""Ignores SIGTERM, tells its process id, and waits for its client's end."""

import os
import signal

import tcppar


def handle(conn: tcppar.Connection) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    conn.write(f"{os.getpid()}\n".encode())
    conn.read()

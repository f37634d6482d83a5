"""Tells its process id, and takes 40 MB more in each connection."""

import os

import tcppar

kept: list[bytes] = []


def handle(conn: tcppar.Connection) -> None:
    kept.append(b"x" * (40 << 20))
    conn.write(f"{os.getpid()}\n".encode())

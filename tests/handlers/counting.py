"""Tells its process id, and how many connections its module has seen."""

import os

import tcppar

seen = 0


def handle(conn: tcppar.Connection) -> None:
    global seen
    seen += 1
    conn.write(f"{os.getpid()} {seen}\n".encode())

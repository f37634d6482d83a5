"""Tells its process id, and then answers what it reads, to the end."""

import os

import tcppar


def handle(conn: tcppar.Connection) -> None:
    conn.write(f"{os.getpid()}\n".encode())
    while data := conn.read():
        conn.write(data)

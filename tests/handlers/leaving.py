"""Tells its process id and ends; a process that it has forked keeps all that it had open, until its client has gone."""

import os

import tcppar


def handle(conn: tcppar.Connection) -> None:
    conn.write(f"{os.getpid()}\n".encode())
    if os.fork():
        os._exit(0)
    conn.read()
    os._exit(0)

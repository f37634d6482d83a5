"""Answers what it reads, to the end."""

import tcppar


def handle(conn: tcppar.Connection) -> None:
    while data := conn.read():
        conn.write(data)

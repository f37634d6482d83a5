"""Answers what it reads, once, and logs a line of it."""

import tcppar


def handle(conn: tcppar.Connection) -> None:
    data = conn.read(64)
    conn.log.info("%d bytes", len(data))
    conn.write(data)

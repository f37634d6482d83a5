"""Reads a byte, and answers more than its client's system takes before the client reads; the rest is left unread."""

import tcppar


def handle(conn: tcppar.Connection) -> None:
    conn.read(1)
    conn.write(bytes(200_000))

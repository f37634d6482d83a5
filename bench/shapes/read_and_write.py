"""Answers what it reads, once, by read and write."""

import tcppar


def handle(conn: tcppar.Connection) -> None:
    conn.write(conn.read(64))

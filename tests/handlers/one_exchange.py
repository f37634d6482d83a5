"""Answers what it reads, once: the conversation of bench/load.c."""

import tcppar


def handle(conn: tcppar.Connection) -> None:
    conn.write(conn.read(64))

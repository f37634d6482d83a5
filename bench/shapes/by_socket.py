"""Answers what it receives, once, by the connection's socket."""

import tcppar


def handle(conn: tcppar.Connection) -> None:
    conn.socket.sendall(conn.socket.recv(64))

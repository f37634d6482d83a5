"""Handlers of tcppar: the conversation of bench/peers, and one that goes on."""

import tcppar


def once(conn: tcppar.Connection) -> None:
    """Answers what it reads, once."""
    conn.write(conn.read(64))


def until_gone(conn: tcppar.Connection) -> None:
    """Answers what it reads, until the client leaves; to leave by a reset is no error."""
    try:
        while data := conn.read(64):
            conn.write(data)
    except tcppar.PeerGone:
        pass

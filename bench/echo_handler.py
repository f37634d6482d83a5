"""A handler of tcppar that has the conversation of bench/peers: one exchange."""

import tcppar


def handle(conn: tcppar.Connection) -> None:
    """Answers what it reads, once."""
    conn.write(conn.read(64))

"""Answers every line, until the client says no more:

    tcppar serve 127.0.0.1:7000 --handler samples/echo.py:handle

It reads as if there were one client. There can be many: each has a process of its own, or, with `--mode pool`, one of
the pool's for the time of its conversation.
"""

import tcppar

LONGEST_LINE = 4096
PATIENCE = 300.0
"""How many seconds a client may be silent."""


def handle(conn: tcppar.Connection) -> None:
    """Talk to one client.

    What is raised here ends this conversation and no other. A client that goes in the middle (PeerGone) is a line in
    the server's log; the two cases below deserve an answer.
    """
    try:
        for line in conn.lines(LONGEST_LINE, timeout=PATIENCE):
            conn.write(line)
    except tcppar.LimitExceeded:
        conn.write(b"That line is too long. Goodbye.\n")
    except tcppar.TimedOut:
        conn.write(b"You have been silent for long. Goodbye.\n")

"""Packets, as the child and the client send them to each other: four digits, which are the length, and so many bytes.

A connection is a stream. What one WRITE sent, the other side may READ in two pieces, or joined to what came next. So
a packet tells its length first. A READ with a count and a time limit then gets just so much.
"""

from tcppar.tcpx import TCPOP_READ, TCPOP_WRITE, tcpx

WOULD_BLOCK = -11
LENGTH_SIZE = 4
LONGEST = 9999


def send(sockport: int, text: str, timer: int) -> int:
    """Send one packet. The status: negative if it could not be sent as a whole."""
    data = text.encode()[:LONGEST]
    packet = b"%04d" % len(data) + data
    status = tcpx(TCPOP_WRITE, buffer=packet, sockport=sockport, timer=timer).status
    return WOULD_BLOCK if 0 <= status < len(packet) else status


def receive(sockport: int, timer: int) -> str | None:
    """The next packet. None if there is none: the other side has closed, was silent for too long, or makes no sense."""
    length = tcpx(TCPOP_READ, sockport=sockport, flags=LENGTH_SIZE, timer=timer)
    if length.status != LENGTH_SIZE or not length.buffer.isdigit():
        return None
    count = int(length.buffer)
    if count == 0:
        return ""  # a READ with the count 0 would take what is there, whatever it is
    body = tcpx(TCPOP_READ, sockport=sockport, flags=count, timer=timer)
    return body.buffer.decode(errors="replace") if body.status == count else None

"""Handlers that use what tcppar documents, or import something of their own; each tells what its process has loaded."""

import sys
from collections.abc import Callable

import tcppar


def told(known: set[str]) -> bytes:
    return "\n".join(sorted(set(sys.modules) - known)).encode()


def late(conn: tcppar.Connection) -> None:
    import xml.etree.ElementTree  # noqa: F401

    conn.write(b"imported")


def documented(conn: tcppar.Connection) -> None:
    known = set(sys.modules)
    conn.timeout = 5
    assert conn.read_until() == b"line\n"
    assert conn.read_exactly(1) == b"x"
    assert next(conn.lines()) == b"rest\n"
    conn.socket.getpeername()
    conn.log.info("from %s", conn.peer)
    assert conn.remote_address[0] == conn.local_address[0]
    assert not conn.closed
    attempts: tuple[tuple[type[Exception], Callable[[], object]], ...] = (
        (tcppar.TimedOut, lambda: conn.read(timeout=0.01)),
        (tcppar.LimitExceeded, lambda: conn.read_until(limit=2)),
        (tcppar.PeerGone, lambda: conn.read_exactly(99)),
    )
    for expected, call in attempts:
        try:
            call()
        except expected:
            if expected is tcppar.TimedOut:
                conn.write(b"more\n")
    conn.write_all([told(known), b"."])
    conn.close_writing()


async def documented_async(conn: tcppar.AsyncConnection) -> None:
    known = set(sys.modules)
    assert await conn.read_until() == b"line\n"
    assert await conn.read_exactly(1) == b"x"
    conn.socket.getpeername()
    conn.log.info("from %s", conn.peer)
    assert [line async for line in conn.lines(timeout=5)] == [b"rest\n", b"abc"]
    await conn.write_all([told(known), b"."])
    await conn.close_writing()

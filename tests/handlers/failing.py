"""Reads how it is to end, says that it has read it, and ends so."""

import os
import signal
import sys
from collections.abc import Callable

import tcppar


def fail() -> None:
    raise LookupError("this is the reason")


WAYS: dict[bytes, Callable[[], object]] = {
    b"raise\n": fail,
    b"exit 3\n": lambda: sys.exit(3),
    b"exit with a text\n": lambda: sys.exit("a text"),
    b"interrupt\n": lambda: signal.raise_signal(signal.SIGINT),
    b"_exit 4\n": lambda: os._exit(4),
    b"kill\n": lambda: os.kill(os.getpid(), signal.SIGKILL),
    b"end\n": lambda: None,
}


def handle(conn: tcppar.Connection) -> None:
    way = WAYS[conn.read_until()]
    conn.write(b"read\n")
    way()


async def coroutine(conn: tcppar.AsyncConnection) -> None:
    way = WAYS[await conn.read_until()]
    await conn.write(b"read\n")
    way()

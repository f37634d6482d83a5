"""Handlers that tests of the Python interface serve."""

import os
import socketserver
from functools import partial
from typing import Any

import tcppar


def echo(conn: tcppar.Connection) -> None:
    """Answers every line."""
    for line in conn.lines(limit=4096):
        conn.write(line)


def surroundings(conn: tcppar.Connection) -> None:
    """Tells its working directory and a variable."""
    conn.write(f"{os.getcwd()} {os.environ['TOLD']}".encode())


class Outer:
    """Holds a handler, and makes one."""

    class EchoRequests(socketserver.StreamRequestHandler):
        """Answers every line."""

        def handle(self) -> None:
            for line in self.rfile:
                self.wfile.write(line)

    def method(self, conn: tcppar.Connection) -> None:
        """Belongs to an object."""

    def __call__(self, conn: tcppar.Connection) -> None:
        """Belongs to an object."""


def _replaced(conn: tcppar.Connection) -> None:
    pass


def _made_inside() -> Any:
    def inner(conn: tcppar.Connection) -> None:
        pass

    return inner


FORGOTTEN = _replaced


def _replaced(conn: tcppar.Connection) -> None:  # type: ignore[no-redef]
    pass


UNNAMEABLE = {
    "lambda": lambda conn: None,
    "closure": _made_inside(),
    "partial": partial(echo),
    "method": Outer().method,
    "instance": Outer(),
    "replaced": FORGOTTEN,
}

"""Talks to others than its client: each way fails in its own way. Nobody listens on port 1."""

import asyncio
import http.client
import os
import socket
import struct
import subprocess
from socketserver import BaseRequestHandler, StreamRequestHandler

import tcppar

NOBODY = ("127.0.0.1", 1)


def pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a TCP connection that is no client's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        return ours, listener.accept()[0]


def reset() -> None:
    ours, its = pair()
    its.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    its.close()
    ours.recv(1)


def broken_pipe() -> None:
    ours, its = socket.socketpair()
    its.close()
    ours.sendall(b"x")


def timeout() -> None:
    ours, its = socket.socketpair()
    with its:
        ours.settimeout(0.01)
        ours.recv(1)


def program() -> None:
    with subprocess.Popen(["true"], stdin=subprocess.PIPE) as started:
        started.wait()
        assert started.stdin is not None
        os.write(started.stdin.fileno(), b"x")


WAYS = {
    "refused": lambda: socket.create_connection(NOBODY),
    "http": lambda: http.client.HTTPConnection(*NOBODY).request("GET", "/"),
    "asyncio": lambda: asyncio.run(asyncio.open_connection(*NOBODY)),
    "reset": reset,
    "broken pipe": broken_pipe,
    "timeout": timeout,
    "program": program,
}


def handle(conn: tcppar.Connection) -> None:
    way = conn.read_until().decode().strip()
    conn.socket.settimeout(conn.socket.gettimeout())
    WAYS[way]()


async def coroutine(conn: tcppar.AsyncConnection) -> None:
    way = (await conn.read_until()).decode().strip()
    if way in ("refused", "asyncio"):
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.open_connection(*NOBODY))
    elif way == "http":
        await asyncio.open_connection(*NOBODY)
    else:
        WAYS[way]()


class Request(StreamRequestHandler):
    def handle(self) -> None:
        WAYS[self.rfile.readline().decode().strip()]()


# Those whose client is gone, or lets them wait, whichever way they talk to it.


def by_socket(conn: tcppar.Connection) -> None:
    conn.write(b"ready\n")
    while conn.socket.recv(1000):
        pass


def by_file(conn: tcppar.Connection) -> None:
    conn.write(b"ready\n")
    conn.socket.makefile("rb").read()


async def by_streams(conn: tcppar.AsyncConnection) -> None:
    await conn.write(b"ready\n")
    reader, _ = await asyncio.open_connection(sock=conn.socket)
    await reader.read()


async def by_tasks(conn: tcppar.AsyncConnection) -> None:
    await conn.write(b"ready\n")
    async with asyncio.TaskGroup() as group:
        group.create_task(conn.read_exactly(100))


class ByRequest(BaseRequestHandler):
    def handle(self) -> None:
        self.request.sendall(b"ready\n")
        while self.request.recv(1000):
            pass


class ByStream(StreamRequestHandler):
    def handle(self) -> None:
        self.wfile.write(b"ready\n")
        self.rfile.read()


class Impatient(StreamRequestHandler):
    timeout = 0.05

    def handle(self) -> None:
        self.rfile.readline()


def impatient(conn: tcppar.Connection) -> None:
    conn.read(timeout=0.05)


async def impatient_coroutine(conn: tcppar.AsyncConnection) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(conn.read(timeout=0.05))


def strict(conn: tcppar.Connection) -> None:
    conn.read_until(limit=2)

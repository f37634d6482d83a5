"""Servers of the handlers in tests/handlers, and what their clients and files do."""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import HERE
from tests.support.command import Serve
from tests.support.server import PATIENCE, Record, Server, read_all, stat_fields

HANDLERS = HERE / "handlers"


def start(serve: Serve, target: str, *more: str | Path, mode: str = "fork", **options: object) -> Server:
    """A server of one of these handlers."""
    return serve(
        "127.0.0.1:0", "--handler", target, "--directory", HANDLERS, "--mode", mode, *more, **options
    )  # fmt: skip


def answers(client: socket.socket, data: bytes = b"x") -> bool:
    """Whether the handler of a client answers what it is sent."""
    client.sendall(data)
    return client.recv(len(data), socket.MSG_WAITALL) == data


def said_by(server: Server, data: bytes = b"") -> str:
    """All that a handler says to a client that sends this."""
    return server.exchange(data).decode()


def peer_of(client: socket.socket) -> str:
    """What records call a client."""
    return "{}:{}".format(*client.getsockname())


def end_of(server: Server, peer: str) -> Record:
    """The end record of a client."""
    [end] = server.wait_for(lambda record: record["event"] == "end" and record["peer"] == peer)
    return end


def is_over(pid: int) -> bool:
    """Whether a process has ended."""
    return stat_fields(pid)[:1] in ([], ["Z"])


def spawner_of(server: Server) -> int:
    """The process id of the spawner that was started last."""
    return int(server.wait_for_event("spawner")[-1]["pid"])


def children_of(pid: int) -> list[int]:
    """The living or unreaped children of a process (proc_pid_task(5)); none if it is gone."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def ask_for_reload(server: Server) -> Record:
    """SIGHUP, and what comes of it."""
    before = len(reloads(server))
    server.signal(signal.SIGHUP)
    return next_reload(server, before)


def reloads(server: Server) -> list[Record]:
    """What came of the reloads so far."""
    return [*server.events("reloaded"), *server.events("reload-failed")]


def next_reload(server: Server, before: int) -> Record:
    """The first record of a reload after so many."""
    return server.wait_for(lambda record: record["event"] in ("reloaded", "reload-failed"), before + 1)[before]


class Source:
    """A module that a test changes."""

    def __init__(self, file: Path, text: str) -> None:
        self.file = file
        self._time = 0
        self.write(text)

    def write(self, text: str) -> None:
        """Change it. Its time of change goes on by a second at least: Python compares it in whole ones with that of
        the bytecode that it keeps.
        """
        beside = self.file.with_suffix(".new")
        beside.write_text(text)
        self._time = max(self._time + 2, int(beside.stat().st_mtime))
        os.utime(beside, (self._time, self._time))
        beside.replace(self.file)


@contextmanager
def clients_that_keep_coming(server: Server) -> Iterator[list[str]]:
    """One client after the other until the block ends; what each was told. None may fail."""
    told: list[str] = []
    failures: list[OSError] = []
    over = threading.Event()

    def come() -> None:
        while not over.is_set():
            try:
                with server.connect() as client:
                    told.append(read_all(client).decode().strip())
            except OSError as error:
                failures.append(error)

    thread = threading.Thread(target=come)
    thread.start()
    try:
        yield told
    finally:
        over.set()
        thread.join(PATIENCE)
    assert failures == []
    assert told

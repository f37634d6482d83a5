"""The sample programs of the scheme, and the other side of each, written with plain sockets."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from tests.support.server import PATIENCE, descendants, stat_fields, wait_until

SAMPLES = Path(__file__).parents[2] / "samples" / "a-shell"
_ATTEMPTS = 5


def script(name: str, *arguments: object) -> list[str]:
    """The command of a sample."""
    return [sys.executable, str(SAMPLES / name), *map(str, arguments)]


def send(peer: socket.socket, text: str) -> None:
    data = text.encode()
    peer.sendall(b"%04d" % len(data) + data)


def receive(peer: socket.socket) -> str | None:
    """The next packet; None at the end of the stream."""
    if not (length := _exactly(peer, 4)):
        return None
    return _exactly(peer, int(length)).decode()


def _exactly(peer: socket.socket, count: int) -> bytes:
    """So many bytes, or none if the stream ends before the first."""
    data = b""
    while len(data) < count and (piece := peer.recv(count - len(data))):
        data += piece
    assert len(data) in (0, count), data
    return data


def converse(peer: socket.socket, exchanges: int = 2) -> None:
    """A conversation as TCPCH1 has it; every answer is checked."""
    for number in range(1, exchanges + 1):
        send(peer, f"hello {number}")
        answer = receive(peer)
        assert answer == f"{number} HELLO {number}", answer


def free_port(host: str) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as probe:
        return int(probe.getsockname()[1])


class ParallelServer:
    """A running parallel_server.py.

    Attributes:
        address: where a client finds it.
        pid: its process id.
    """

    def __init__(self, folder: Path, *options: str, host: str = "127.0.0.1") -> None:
        self._said = folder / "said"
        for _ in range(_ATTEMPTS):  # somebody else may take the port that was free a moment ago
            self.address = (host, free_port(host))
            self._start(folder, options)
            wait_until(lambda: "listening" in self.said or self._process.poll() is not None)
            if self._process.poll() is None:
                return
        raise AssertionError(self.said)

    def _start(self, folder: Path, options: tuple[str, ...]) -> None:
        where = ["--bind", self.address[0], "--directory", folder]
        words = script("parallel_server.py", *where, *options, self.address[1])
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(words, stderr=said)
        self.pid = self._process.pid

    @property
    def said(self) -> str:
        """All that it has written so far."""
        return self._said.read_text()

    @property
    def resets(self) -> int:
        return self.said.count("reset")

    @property
    def children(self) -> list[int]:
        return list(descendants(self.pid))

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=PATIENCE)

    def wait_until_it_waits(self) -> None:
        """Until it has let go of all children that have ended, and waits in its CHECK again."""
        wait_until(lambda: stat_fields(self.pid)[:1] == ["S"] and not any(is_zombie(pid) for pid in self.children))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


def is_zombie(pid: int) -> bool:
    return stat_fields(pid)[:1] == ["Z"]


def load(
    server: ParallelServer, clients: int, connections: int, between: Callable[[], None] | None = None
) -> list[str]:
    """So many clients at once, together so many connections; what went wrong in any of them.

    Args:
        between: if given, the clients come and go in waves, and it is called between two of them.
    """
    failures: list[str] = []
    wave_is_over = threading.Barrier(clients, action=between, timeout=PATIENCE)

    def client() -> None:
        for _ in range(connections // clients):
            try:
                with server.connect() as peer:
                    converse(peer)
            except (OSError, AssertionError) as error:
                failures.append(repr(error))
            if between:
                wave_is_over.wait()

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures


@contextmanager
def ending_children(program: Path, count: int, each: Callable[[], object] = lambda: None) -> Iterator[threading.Event]:
    """Let so many children of this process end beside the block, one after the other, each followed by a call of
    `each`. The event tells that it is over.

    A SIGCHLD is for the thread that has made the child, unless that one blocks it; so here it is for the main thread.
    """
    over = threading.Event()

    def make() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        for _ in range(count):
            os.waitpid(os.posix_spawn(program, [str(program)], {}), 0)
            each()
        over.set()

    thread = threading.Thread(target=make)
    thread.start()
    try:
        yield over
    finally:
        thread.join()

"""Real shortages: limits lowered on a running server. It waits them out at no cost, and serves everybody after."""

import os
import resource
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.server import Server, descendants, read_all, stat_fields

TICKS = os.sysconf("SC_CLK_TCK")
CLIENTS = 20
# A user that runs nothing on a Debian, and how many processes it may have.
LONELY_USER = "uucp"
PROCESSES = CLIENTS + 2
# Long enough that a process that spins shows it, in clock ticks of a hundredth of a second.
SHORTAGE = 1.5


@contextmanager
def limited(pid: int, which: int, limit: int) -> Iterator[None]:
    before = resource.prlimit(pid, which)
    resource.prlimit(pid, which, (limit, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, which, before)


def processor_seconds(pid: int) -> float:
    fields = stat_fields(pid)
    return (int(fields[11]) + int(fields[12])) / TICKS


def lowest_free_descriptor(pid: int) -> int:
    used = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    return next(number for number in range(len(used) + 1) if number not in used)


def wait_out(server: Server, pids: list[int], event_of_shortage: str) -> None:
    """Stay in the shortage for its time, and see that nobody spins and the log stays quiet."""
    server.wait_for(lambda record: record["event"] == "fault" and event_of_shortage in record["error"])
    used = sum(map(processor_seconds, pids))
    deadline = time.monotonic() + SHORTAGE
    with pytest.raises(AssertionError):  # nothing ends in a shortage: waiting for it is how the time passes
        server.wait_for_event("end", patience=deadline - time.monotonic())
    assert sum(map(processor_seconds, pids)) - used < 0.1 * SHORTAGE
    assert len(server.events("fault")) == 1


def assert_all_are_served(server: Server, clients: list[socket.socket]) -> None:
    for client in clients:
        with client:
            client.sendall(b"after the shortage")
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == b"after the shortage"
    assert len(server.wait_for_event("end", CLIENTS)) == CLIENTS
    assert not server.events("refused")


def test_without_descriptors_the_supervisor_waits(serve: Callable[..., Server], echo: Path) -> None:
    server = serve("127.0.0.1:0", "--", echo)
    with limited(server.pid, resource.RLIMIT_NOFILE, lowest_free_descriptor(server.pid)):
        clients = [server.connect() for _ in range(CLIENTS)]
        wait_out(server, [server.pid], "EMFILE")
    assert_all_are_served(server, clients)


def test_without_descriptors_in_a_spawner_clients_wait(serve: Callable[..., Server], echo: Path) -> None:
    server = serve("127.0.0.1:0", "--spawners", "1", "--", echo)
    (spawner,) = descendants(server.pid)
    with limited(spawner, resource.RLIMIT_NOFILE, lowest_free_descriptor(spawner)):
        clients = [server.connect() for _ in range(CLIENTS)]
        wait_out(server, [server.pid, spawner], "EMFILE")
    assert_all_are_served(server, clients)


@contextmanager
def processes_of(user: str, number: int) -> Iterator[None]:
    """That many processes of a user, which end with the block."""
    running = [subprocess.Popen(["sleep", "300"], user=user) for _ in range(number)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for a user with a limit on processes")
def test_without_processes_clients_wait(serve: Callable[..., Server]) -> None:
    def limit_processes() -> None:
        resource.setrlimit(resource.RLIMIT_NPROC, (PROCESSES, PROCESSES))  # does not bind root itself

    arguments = ["127.0.0.1:0", "--spawners", "1", "--user", LONELY_USER, "--", "cat"]
    server = serve(*arguments, preexec_fn=limit_processes)
    (spawner,) = descendants(server.pid)
    with processes_of(LONELY_USER, PROCESSES):
        clients = [server.connect() for _ in range(CLIENTS)]
        wait_out(server, [server.pid, spawner], "EAGAIN")
    assert_all_are_served(server, clients)


def test_a_client_that_waited_too_long_is_given_up_and_told(serve: Callable[..., Server], echo: Path) -> None:
    server = serve("127.0.0.1:0", "--spawners", "1", "--hand-over-timeout", "200ms", "--", echo)
    (spawner,) = descendants(server.pid)
    shortage = limited(spawner, resource.RLIMIT_NOFILE, lowest_free_descriptor(spawner))
    with shortage, server.connect() as client:
        assert read_all(client) == b""
    (refused,) = server.wait_for_event("refused")
    assert refused["reason"] == "hand_over_timeout"
    assert "EMFILE" in refused["detail"]
    assert server.exchange(b"again") == b"again"


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A program that somebody can open for writing: while that lasts, nobody can run it (ETXTBSY, execve(2))."""
    return Path(shutil.copy(shutil.which("cat") or "/bin/cat", tmp_path / "program"))


def test_a_program_that_is_being_written_is_waited_for(serve: Callable[..., Server], written: Path) -> None:
    server = serve("127.0.0.1:0", "--", written)
    with written.open("r+b"):
        clients = [server.connect() for _ in range(CLIENTS)]
        server.wait_for(lambda record: record["event"] == "fault" and "ETXTBSY" in record["error"])
    assert_all_are_served(server, clients)


def test_but_not_for_ever(serve: Callable[..., Server], written: Path) -> None:
    server = serve("127.0.0.1:0", "--hand-over-timeout", "200ms", "--", written)
    with written.open("r+b"), server.connect() as client:
        assert read_all(client) == b""
    (refused,) = server.wait_for_event("refused")
    assert refused["reason"] == "hand_over_timeout"
    assert "ETXTBSY" in refused["detail"]
    assert server.exchange(b"again") == b"again"

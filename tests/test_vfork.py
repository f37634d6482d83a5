"""What spawner/vfork.py relies on in an undocumented function of the interpreter."""

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tcppar.spawner.vfork import VforkExec
from tests.support.server import read_all

pytestmark = pytest.mark.skipif(not VforkExec.available(), reason="another form of the function: posix_spawn is used")


@pytest.fixture
def connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, childs = socket.socketpair()
    with ours, childs:
        yield ours, childs


def children() -> str:
    """Process ids of our children, zombies included."""
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text()


def run(launch: VforkExec, connection: tuple[socket.socket, socket.socket], *arguments: str) -> bytes:
    """What a program writes, run with the connection and with ADDED=1 in its environment."""
    ours, childs = connection
    pid = launch(childs.fileno(), list(arguments), {"ADDED": "1"})
    childs.close()
    ours.shutdown(socket.SHUT_WR)
    said = read_all(ours)
    assert os.waitpid(pid, 0) == (pid, 0)
    return said


def test_descriptors_0_and_1_are_the_connection(connection: tuple[socket.socket, socket.socket]) -> None:
    launch = VforkExec("/bin/sh", {})
    ours, _ = connection
    ours.sendall(b"line\n")
    assert run(launch, connection, "sh", "-c", "read said; echo got $said") == b"got line\n"


def test_the_environment_is_the_services_and_the_connections(connection: tuple[socket.socket, socket.socket]) -> None:
    launch = VforkExec("/usr/bin/env", {b"OF_SERVICE": b"\xff"})
    assert sorted(run(launch, connection, "env").splitlines()) == [b"ADDED=1", b"OF_SERVICE=\xff"]


def test_a_name_of_the_connections_stands_only_once(connection: tuple[socket.socket, socket.socket]) -> None:
    launch = VforkExec("/usr/bin/env", {b"TCPREMOTEIP": b"forged", b"OTHER": b"kept"})
    assert sorted(run(launch, connection, "env").splitlines()) == [b"ADDED=1", b"OTHER=kept"]


def test_the_child_leads_a_process_group_of_its_own(connection: tuple[socket.socket, socket.socket]) -> None:
    launch = VforkExec("/bin/sh", {})
    pid, group = run(launch, connection, "sh", "-c", "read x < /proc/$$/stat; set -- $x; echo $1 $5").split()
    assert pid == group != str(os.getpgrp()).encode()


def test_a_program_that_is_not_there_is_told_and_leaves_no_zombie() -> None:
    launch = VforkExec("/nonexistent/program", {})
    before = children()
    for _ in range(2):  # the pipe that tells it serves every child
        with pytest.raises(FileNotFoundError) as caught:
            launch(0, ["program"], {})
        assert caught.value.errno == errno.ENOENT
    assert children() == before


def test_a_file_that_is_no_program_is_told(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("nothing that runs")
    file.chmod(0o755)
    with pytest.raises(OSError, match="Exec format error"):
        VforkExec(str(file), {})(0, ["file"], {})

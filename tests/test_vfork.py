"""Programs run by vfork: what the child gets, and what is told where it cannot run."""

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tcppar.records import ChildPlan, DescriptorMode
from tcppar.spawner import vfork
from tcppar.spawner.vfork import VforkExec
from tests.conftest import unavailable
from tests.support.server import read_all

Connection = tuple[socket.socket, socket.socket]


@pytest.fixture(autouse=True)
def compiled_launcher() -> None:
    if not vfork.AVAILABLE:
        unavailable("the launcher was not compiled: posix_spawn is used")


@pytest.fixture
def connection() -> Iterator[Connection]:
    ours, childs = socket.socketpair()
    with ours, childs:
        yield ours, childs


def launcher(program: str, **plan: Any) -> VforkExec:
    return VforkExec(ChildPlan("service", "prefix", program.encode(), (), plan.pop("environment", {}), **plan))


def children() -> str:
    """Process ids of our children, zombies included."""
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text()


def run(launch: VforkExec, connection: Connection, *arguments: str) -> bytes:
    """What a program writes, run with the connection and with ADDED=1 in its environment."""
    ours, childs = connection
    pid = launch(childs.fileno(), [word.encode() for word in arguments], {"ADDED": "1"})
    childs.close()
    ours.shutdown(socket.SHUT_WR)
    said = read_all(ours)
    assert os.waitpid(pid, 0) == (pid, 0)
    return said


def test_descriptors_0_and_1_are_the_connection(connection: Connection) -> None:
    ours, _ = connection
    ours.sendall(b"line\n")
    assert run(launcher("/bin/sh"), connection, "sh", "-c", "read said; echo got $said") == b"got line\n"


def test_the_environment_is_the_services_and_the_connections(connection: Connection) -> None:
    launch = launcher("/usr/bin/env", environment={b"OF_SERVICE": b"\xff"})
    assert sorted(run(launch, connection, "env").splitlines()) == [b"ADDED=1", b"OF_SERVICE=\xff"]


def test_a_name_of_the_connections_stands_only_once(connection: Connection) -> None:
    launch = launcher("/usr/bin/env", environment={b"TCPREMOTEIP": b"forged", b"OTHER": b"kept"})
    assert sorted(run(launch, connection, "env").splitlines()) == [b"ADDED=1", b"OTHER=kept"]


def test_the_child_leads_a_process_group_of_its_own(connection: Connection) -> None:
    said = run(launcher("/bin/sh"), connection, "sh", "-c", "read x < /proc/$$/stat; set -- $x; echo $1 $5")
    pid, group = said.split()
    assert pid == group != str(os.getpgrp()).encode()


def test_limits_are_the_childs_alone(connection: Connection) -> None:
    launch = launcher("/bin/sh", rlimits=(("nofile", 50, 60), ("core", -1, -1)))
    before = Path("/proc/self/limits").read_text()
    assert run(launch, connection, "sh", "-c", "ulimit -Sn; ulimit -Hn; ulimit -c") == b"50\n60\nunlimited\n"
    assert Path("/proc/self/limits").read_text() == before


def test_a_limit_that_is_refused_is_told(connection: Connection) -> None:
    before = children()
    # A soft limit above the hard one is refused to everybody.
    with pytest.raises(OSError, match="rlimits") as caught:
        launcher("/bin/sh", rlimits=(("nofile", 60, 50),))(connection[1].fileno(), [b"sh"], {})
    assert caught.value.errno == errno.EINVAL
    assert children() == before


def test_the_connection_is_passed_by_the_protocol_of_systemd(connection: Connection) -> None:
    launch = launcher("/bin/sh", descriptors=DescriptorMode.LISTEN_FDS, environment={b"LISTEN_PID": b"1"})
    script = "echo $LISTEN_FDS $((LISTEN_PID - $$)) $LISTEN_FDNAMES >&3"
    assert run(launch, connection, "sh", "-c", script) == b"1 0 connection\n"


def test_a_program_that_is_not_there_is_told_and_leaves_no_zombie() -> None:
    launch = launcher("/nonexistent/program")
    before = children()
    with pytest.raises(FileNotFoundError) as caught:
        launch(0, [b"program"], {})
    assert caught.value.errno == errno.ENOENT
    assert caught.value.filename == "/nonexistent/program"
    assert children() == before


@pytest.mark.parametrize("count", [300_000, 2_000_000])
def test_more_arguments_than_a_program_can_have_are_told(count: int) -> None:
    before = children()
    with pytest.raises(OSError, match="Argument list too long") as caught:
        launcher("/bin/true")(0, [b"x" * 8] * count, {})
    assert caught.value.filename == "/bin/true"
    with pytest.raises(OSError, match="Argument list too long"):
        launcher("/bin/true", environment={b"%d" % number: b"x" * 8 for number in range(count)})(0, [b"x"], {})
    assert children() == before


def test_a_file_that_is_no_program_is_told(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("nothing that runs")
    file.chmod(0o755)
    with pytest.raises(OSError, match="Exec format error"):
        launcher(str(file))(0, [b"file"], {})

"""Programs that never end: connections on which nothing happens, and programs whose client is gone."""

import os
import resource
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import HERE, tool
from tests.support import command, config
from tests.support.command import Serve
from tests.support.server import PATIENCE, Server, read_all, read_line, stat_fields, wait_until
from tests.support.succession import upgrade

# Tells its process id, and never looks at its client again.
HEEDLESS = ["sh", "-c", "echo $$; exec sleep 120"]
# Tells its process id, and then answers what it reads, to the end.
CAT = ["sh", "-c", "echo $$; exec cat"]
RESET_ON_CLOSE = b"\1\0\0\0\0\0\0\0"

only_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of connections")


@pytest.fixture
def on_linux() -> Iterator[Serve]:
    """Starts servers in the full profile."""
    with command.killed_afterwards(Server) as start:
        yield start


def hear_of_all(server: Server) -> None:
    """Let a client come and go: what the spawner has said of others before that is heard then (with one spawner)."""
    before = len(server.events("end"))
    server.exchange(b"")
    server.wait_for_event("end", before + 1)


# Nothing is sent.


@only_linux
def test_a_connection_on_which_nothing_is_sent_ends(on_linux: Serve) -> None:
    server = on_linux("127.0.0.1:0", "--idle-timeout", "300ms", "--", "cat")
    with server.connect() as client:
        assert client.recv(1) == b""
    [end] = server.wait_for_event("end")
    assert (end["signal"], end["ended_by"]) == ("SIGTERM", "idle_timeout")
    assert end["duration"] >= 0.3
    assert server.events("fault") == []


@only_linux
def test_a_connection_that_is_used_does_not_end_while_others_do(on_linux: Serve) -> None:
    # Long enough for this test to be held up by others.
    server = on_linux("127.0.0.1:0", "--idle-timeout", "2s", "--", *CAT)
    with server.connect() as used, used.makefile("rw") as lines, server.connect() as idle:
        lines.readline()
        read_line(idle)
        idle.setblocking(False)
        while not ended(idle):
            lines.write("again\n")
            lines.flush()
            assert lines.readline() == "again\n"
        server.wait_for_event("end")  # its client sees it a moment before it can be waited for
    ends = server.wait_for_event("end", 2)
    assert [end["ended_by"] for end in ends] == ["idle_timeout", None]


def ended(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False


@only_linux
def test_it_is_enough_if_one_side_sends(on_linux: Serve) -> None:
    # Its program reads nothing of it. That the time is over is told by the end of another.
    server = on_linux("127.0.0.1:0", "--idle-timeout", "2s", "--", *HEEDLESS)
    with server.connect() as sending, server.connect() as silent:
        pid = int(read_line(sending))
        read_line(silent)
        silent.setblocking(False)
        wait_until(lambda: sending.send(b"x") == 1 and ended(silent))
        assert stat_fields(pid)
        assert [end["pid"] for end in server.wait_for_event("end")] != [pid]


@only_linux
def test_a_stubborn_program_is_killed_for_being_idle(on_linux: Serve) -> None:
    stubborn = [sys.executable, "-I", "-S", HERE / "children" / "stubborn.py"]
    server = on_linux("127.0.0.1:0", "--idle-timeout", "1s", "--kill-timeout", "100ms", "--", *stubborn)
    with server.connect() as client:
        read_line(client)
        assert read_line(client) == "asked"
        assert client.recv(1) == b""
        [end] = server.wait_for_event("end")
    assert (end["signal"], end["ended_by"]) == ("SIGKILL", "idle_timeout")


@only_linux
def test_an_idle_connection_of_ipv6_ends_too(on_linux: Serve) -> None:
    server = on_linux("[::1]:0", "--idle-timeout", "300ms", "--", "cat")
    with server.connect() as client:
        assert client.recv(1) == b""
    [end] = server.wait_for_event("end")
    assert end["ended_by"] == "idle_timeout"


@only_linux
def test_a_worker_of_a_pool_is_idle_too(on_linux: Serve) -> None:
    handler = f"{HERE / 'handlers' / 'waiting.py'}:handle"
    server = on_linux(
        "127.0.0.1:0", "--handler", handler, "--mode", "pool", "--workers", "1", "--idle-timeout", "500ms"
    )
    for _ in range(2):
        with server.connect() as client:
            read_line(client)
            assert client.recv(1) == b""
    ends = server.wait_for_event("end", 2)
    assert [(end["signal"], end["ended_by"]) for end in ends] == [("SIGTERM", "idle_timeout")] * 2


@only_linux
def test_the_children_of_a_dead_spawner_are_watched_still(on_linux: Serve) -> None:
    server = on_linux("127.0.0.1:0", "--idle-timeout", "1s", "--", *CAT)
    [spawner] = server.wait_for_event("spawner")
    with server.connect() as client:
        read_line(client)
        os.kill(spawner["pid"], signal.SIGKILL)
        server.wait_for_event("spawner-died")
        assert client.recv(1) == b""
    [end] = server.wait_for_event("end")
    assert (end["signal"], end["ended_by"]) == ("SIGTERM", "idle_timeout")


@only_linux
def test_a_reload_brings_the_time_to_connections_that_are_open(on_linux: Serve, tmp_path: Path) -> None:
    file = tmp_path / "tcppar.toml"
    one = {"listen": ["127.0.0.1:0"], "command": CAT, "spawners": 1}
    config.write(file, {"one": one})
    server = on_linux("-c", file)
    with server.connect() as client:
        read_line(client)
        hear_of_all(server)
        config.write(file, {"one": one | {"idle_timeout": "300ms"}})
        server.signal(signal.SIGHUP)
        server.wait_for_event("reloaded")
        assert client.recv(1) == b""
    ends = server.wait_for_event("end", 2)
    assert [end["ended_by"] for end in ends] == [None, "idle_timeout"]


@only_linux
def test_a_shorter_time_holds_at_once_and_none_lets_go(on_linux: Serve, tmp_path: Path) -> None:
    file = tmp_path / "tcppar.toml"
    services = {name: {"listen": ["127.0.0.1:0"], "command": CAT, "spawners": 1} for name in ("one", "two")}
    config.write(
        file,
        {"one": services["one"] | {"idle_timeout": "1h"}, "two": services["two"] | {"idle_timeout": "1s"}},
    )
    server = on_linux("-c", file)
    server.wait_for_event("listening", 2)
    one, two = (socket.create_connection(address, timeout=PATIENCE) for address in server.addresses)
    with one, two:
        read_line(one)
        read_line(two)
        hear_of_all(server)
        config.write(file, {"one": services["one"] | {"idle_timeout": "1100ms"}, "two": services["two"]})
        server.signal(signal.SIGHUP)
        server.wait_for_event("reloaded")
        assert one.recv(1) == b""
        two.sendall(b"x")
        assert two.recv(1) == b"x"


@only_linux
def test_the_time_goes_on_after_an_upgrade(on_linux: Serve) -> None:
    server = on_linux("127.0.0.1:0", "--idle-timeout", "1s", "--spawners", "1", "--", *CAT)
    with server.connect() as client:
        read_line(client)
        hear_of_all(server)
        upgrade(server)
        assert client.recv(1) == b""
    ends = server.wait_for_event("end", 2)
    assert [end["ended_by"] for end in ends] == [None, "idle_timeout"]


# The client is gone.


@only_linux
def test_a_program_that_does_not_notice_that_its_client_has_closed_is_ended(on_linux: Serve) -> None:
    server = on_linux("127.0.0.1:0", "--end-when-client-gone", "300ms", "--", *HEEDLESS)
    with server.connect() as client:
        read_line(client)
    [end] = server.wait_for_event("end")
    assert (end["signal"], end["ended_by"]) == ("SIGTERM", "end_when_client_gone")
    assert end["duration"] >= 0.3


@only_linux
def test_a_program_whose_connection_was_reset_is_ended(on_linux: Serve) -> None:
    server = on_linux("127.0.0.1:0", "--end-when-client-gone", "300ms", "--", *HEEDLESS)
    with server.connect() as first:
        read_line(first)
        with server.connect() as second:
            read_line(second)
            second.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        # One that was reset is no more in any table of the kernel's: that others are found there tells it apart.
        first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        server.wait_for_event("end")
    ends = server.wait_for_event("end", 2)
    assert [end["ended_by"] for end in ends] == ["end_when_client_gone"] * 2


@only_linux
@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0"])
@pytest.mark.parametrize("rule", ["end_when_client_gone", "idle_timeout"])
def test_the_very_first_connection_may_be_reset_before_anybody_has_looked(
    on_linux: Serve, address: str, rule: str
) -> None:
    server = on_linux(address, f"--{rule.replace('_', '-')}", "300ms", "--", *HEEDLESS)
    with server.connect() as client:
        read_line(client)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    [end] = server.wait_for_event("end")
    assert end["ended_by"] == rule
    assert server.events("fault") == []


# connect(2) with AF_UNSPEC ends the connection at once, and the program keeps its socket.
DISCONNECTING = """
import ctypes, time
ctypes.CDLL(None).connect(0, bytes(16), 16)
time.sleep(120)
"""


@only_linux
def test_a_program_that_has_ended_its_connection_itself_is_ended(on_linux: Serve) -> None:
    program = [sys.executable, "-I", "-S", "-c", DISCONNECTING]
    server = on_linux("127.0.0.1:0", "--end-when-client-gone", "1s", "--", *program)
    with server.connect() as client:
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        [end] = server.wait_for_event("end")
    assert end["ended_by"] == "end_when_client_gone"


@only_linux
def test_a_connection_is_reset_before_anybody_has_looked_after_an_upgrade(on_linux: Serve) -> None:
    server = on_linux("127.0.0.1:0", "--end-when-client-gone", "3s", "--spawners", "1", "--", *HEEDLESS)
    with server.connect() as client:
        read_line(client)
        upgrade(server)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    [end] = server.wait_for_event("end")
    assert end["ended_by"] == "end_when_client_gone"


@only_linux
def test_a_client_that_has_closed_its_side_gets_an_answer_of_any_length(on_linux: Serve, tmp_path: Path) -> None:
    enough = tmp_path / "enough"
    program = f"cat; while [ ! -e {enough} ]; do echo more; sleep 0.05; done"
    server = on_linux("127.0.0.1:0", "--end-when-client-gone", "2s", "--", "sh", "-c", program)
    with server.connect() as client:
        client.shutdown(socket.SHUT_WR)
        for _ in range(70):
            assert read_line(client) == "more"
        enough.touch()
        assert set(read_all(client).split()) <= {b"more"}
    [end] = server.wait_for_event("end")
    assert (end["exit"], end["ended_by"]) == (0, None)
    assert end["duration"] > 1.5 * 2


@only_linux
def test_a_client_that_stays_and_is_silent_is_not_gone(on_linux: Serve) -> None:
    server = on_linux("127.0.0.1:0", "--end-when-client-gone", "200ms", "--", *HEEDLESS)
    with server.connect() as silent:
        pid = int(read_line(silent))
        for number in range(1, 4):
            with server.connect() as gone:
                read_line(gone)
            assert pid not in [end["pid"] for end in server.wait_for_event("end", number)]
        assert stat_fields(pid)


@only_linux
def test_both_times_are_kept_beside_each_other(on_linux: Serve) -> None:
    times = ["--idle-timeout", "600ms", "--end-when-client-gone", "200ms"]
    server = on_linux("127.0.0.1:0", *times, "--", *HEEDLESS)
    with server.connect() as silent:
        read_line(silent)
        with server.connect() as gone:
            read_line(gone)
        assert silent.recv(1) == b""
    ends = server.wait_for_event("end", 2)
    assert [end["ended_by"] for end in ends] == ["end_when_client_gone", "idle_timeout"]


# What cannot be known.


@only_linux
def test_without_a_descriptor_to_look_with_it_looks_later(on_linux: Serve) -> None:
    server = on_linux("127.0.0.1:0", "--idle-timeout", "300ms", "--", *HEEDLESS)
    with server.connect() as client:
        pid = int(read_line(client))
        limits = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
        [fault] = server.wait_for_event("fault")
        assert "EMFILE" in fault["error"]
        assert stat_fields(pid)
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, limits)
        assert client.recv(1) == b""
    [end] = server.wait_for_event("end")
    assert end["ended_by"] == "idle_timeout"


@only_linux
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_connections_of_another_network_namespace_are_left_alone(on_linux: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.fileno()
        manager = [sys.executable, str(HERE / "support" / "manager.py"), "other", str(number)]
        times = ["--idle-timeout", "200ms", "--end-when-client-gone", "200ms"]
        wrapper = [*manager, tool("unshare"), "--net"]
        server = on_linux("inherited", *times, "--", *HEEDLESS, wrapper=wrapper, pass_fds=[number])
        with socket.create_connection(listener.getsockname(), timeout=PATIENCE) as client:
            pid = int(read_line(client))
            [fault] = server.wait_for_event("fault")
            assert "ENOENT" in fault["error"]
            assert stat_fields(pid)
    assert server.events("end") == []


@only_linux
def test_that_a_unix_socket_of_the_service_managers_is_not_watched_is_told(on_linux: Serve, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        number = listener.fileno()
        manager = [sys.executable, str(HERE / "support" / "manager.py"), "other", str(number)]
        server = on_linux("inherited", "--idle-timeout", "200ms", "--", *CAT, wrapper=manager, pass_fds=[number])
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            [fault] = server.wait_for_event("fault")
    assert fault["remedy"] == "idle_timeout and end_when_client_gone have no effect on connections of Unix sockets"


def test_where_the_system_does_not_tell_the_server_says_so(serve: Serve) -> None:
    times = ["--idle-timeout", "100ms", "--end-when-client-gone", "100ms"]
    server = serve("127.0.0.1:0", *times, "--", *CAT)
    with server.connect() as client:
        read_line(client)
        if server.portable:
            [fault] = server.wait_for_event("fault")
            assert "ENOTSUP" in fault["error"]
            assert "have no effect" in fault["remedy"]
        else:
            assert client.recv(1) == b""
            assert server.events("fault") == []

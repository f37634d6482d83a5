"""Upgrades in place: the same process, the same connections, another program."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import HERE
from tests.support import command, config
from tests.support.command import Serve
from tests.support.handlers import answers, ask_for_reload, children_of, end_of, is_over, peer_of, spawner_of
from tests.support.server import PATIENCE, Server, descriptors, read_line, wait_until
from tests.support.succession import KINDS, SAYS_PID, ask_for_upgrade, install, supervisor_of, upgrade
from tests.test_load import assert_books_balance, outcome_of, start_load


@pytest.fixture(params=list(KINDS.values()), ids=list(KINDS))
def server(request: pytest.FixtureRequest, serve: Serve) -> Server:
    """A server of something that tells its process id and then echoes."""
    return serve("127.0.0.1:0", *request.param)


def test_conversations_go_on_and_are_recorded(server: Server) -> None:
    with server.connect() as before:
        pid = int(read_line(before))
        upgrade(server)
        with server.connect() as after:
            assert int(read_line(after)) != pid
            assert answers(before)
            assert answers(after)
            peers = [peer_of(before), peer_of(after)]
    ends = [end_of(server, peer) for peer in peers]
    assert ends[0]["pid"] == pid
    assert [(end["exit"], end["signal"], end["ended_by"]) for end in ends] == [(0, None, None)] * 2
    assert ends[0]["id"].rpartition("-")[0] == ends[1]["id"].rpartition("-")[0]
    assert server.stop() == 0
    [last] = server.events("stopped")
    assert (last["accepted"], last["ended"], last["refused"]) == (2, 2, 0)


def test_an_old_spawner_ends_with_its_last_child(server: Server) -> None:
    old = spawner_of(server)
    with server.connect() as client:
        read_line(client)
        upgrade(server)
        assert spawner_of(server) != old
        assert not is_over(old)
        with server.connect() as second:
            read_line(second)
    wait_until(lambda: is_over(old))
    assert server.events("spawner-died") == []


def test_nothing_is_left_over(server: Server) -> None:
    server.exchange(b"x")
    server.wait_for_event("end")
    before = descriptors(server.pid)
    for _ in range(3):
        upgrade(server)
    wait_until(lambda: descriptors(server.pid) == before)


def test_a_reset_follows_an_upgrade(server: Server) -> None:
    upgrade(server)
    server.signal(signal.SIGUSR1)
    server.wait_for_event("reset")
    with server.connect() as client:
        read_line(client)
        upgrade(server)
        assert answers(client)


def test_upgrades_under_load_lose_nobody(load: Path, echo: Path) -> None:
    with Server("127.0.0.1:0", "--", echo) as server:
        running = start_load(load, server, 5)
        while running.poll() is None:
            upgrade(server)
        outcome = outcome_of(running)
        assert outcome["failed"] == 0, outcome
        assert len(server.events("upgraded")) >= 3
        assert_books_balance(server, outcome)
        assert server.stop() == 0
        [last] = server.events("stopped")
        assert last["accepted"] == last["ended"] == outcome["done"]


# What is installed.


@pytest.fixture
def start(serve: Serve, tmp_path: Path) -> Callable[..., Server]:
    """Starts servers that will find another version in tmp_path, if it is installed there."""

    def start(*arguments: str | Path, **options: Any) -> Server:
        path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
        return serve(*arguments, environment={"PYTHONPATH": path}, cwd="/", **options)

    return start


def test_the_installed_version_goes_on(start: Callable[..., Server], tmp_path: Path) -> None:
    server = start("127.0.0.1:0", *SAYS_PID)
    install(tmp_path, "__init__.py", '__version__ = "0.1.0"', '__version__ = "9.9.9"')
    record = ask_for_upgrade(server)
    assert (record["event"], record["former_version"], record["version"]) == ("upgraded", "0.1.0", "9.9.9")


@pytest.mark.parametrize(
    ("file", "old", "new", "reason"),
    [
        ("supervisor/loop.py", "class Supervisor:", "class Supervisor(:", "SyntaxError"),
        ("supervisor/loop.py", "import signal\n", "import signal_of_tomorrow\n", "ModuleNotFoundError"),
        ("supervisor/snapshot.py", "VERSION = 1\n", "VERSION = 2\n", "cannot be taken over"),
        ("supervisor/succession/takeover.py", "def rebuild(self)", "def rebuild(self, more)", "TypeError"),
        ("supervisor/succession/takeover.py", " self._settle(connection)\n", " self._unsettle()\n", "AttributeError"),
    ],
    ids=["broken", "something missing", "another state", "a takeover that fails", "one that fails with clients"],
)
def test_a_version_that_cannot_go_on_changes_nothing(
    start: Callable[..., Server], tmp_path: Path, file: str, old: str, new: str, reason: str
) -> None:
    server = start("127.0.0.1:0", *SAYS_PID)
    before, spawner = descriptors(server.pid), spawner_of(server)
    with server.connect() as client:
        read_line(client)
        install(tmp_path, file, old, new)
        record = ask_for_upgrade(server)
        assert record["event"] == "upgrade-failed"
        assert reason in "\n".join(record["reasons"])
        assert answers(client)
    wait_until(lambda: descriptors(server.pid) == before)
    with server.connect() as client:
        read_line(client)
    assert spawner_of(server) == spawner


LEAVES_ONE_BEHIND = """
import os, subprocess
if "TCPPAR_TRIAL" in os.environ:
    left = subprocess.Popen(["sleep", "600"], start_new_session=True)
    with open(os.path.join(os.path.dirname(__file__), "left"), "a") as file:
        print(left.pid, file=file)
"""
"""What administrators have Python run at each start; here it starts a daemon in a trial, which has all that it has."""


@pytest.fixture
def leaving_one_behind(tmp_path: Path) -> Iterator[None]:
    (tmp_path / "sitecustomize.py").write_text(LEAVES_ONE_BEHIND)
    yield
    for pid in (tmp_path / "left").read_text().split():
        os.kill(int(pid), signal.SIGKILL)


@pytest.mark.usefixtures("leaving_one_behind")
def test_a_trial_that_leaves_a_process_behind_is_answered(start: Callable[..., Server], tmp_path: Path) -> None:
    server = start("127.0.0.1:0", *SAYS_PID)
    upgrade(server)
    install(tmp_path, "supervisor/snapshot.py", "VERSION = 1\n", "VERSION = 2\n")
    record = ask_for_upgrade(server)
    assert "cannot be taken over" in "\n".join(record["reasons"])


# The configuration.


def test_new_settings_are_in_force_afterwards(serve: Serve, tmp_path: Path) -> None:
    file = tmp_path / "tcppar.toml"
    one: dict[str, object] = {"listen": ["127.0.0.1:0"], "command": ["sh", "-c", "echo old; cat"]}
    config.write(file, {"one": one})
    server = serve("-c", file)
    with server.connect() as client:
        assert read_line(client) == "old"
        config.write(file, {"one": one | {"command": ["sh", "-c", "echo new; cat"]}})
        upgrade(server)
        with server.connect() as second:
            assert read_line(second) == "new"
        assert answers(client)


def test_a_mistake_in_the_file_changes_nothing(serve: Serve, tmp_path: Path) -> None:
    file = tmp_path / "tcppar.toml"
    config.write(file, {"one": {"listen": ["127.0.0.1:0"], "command": ["cat"]}})
    server = serve("-c", file)
    config.write(file, {"one": {"listen": ["127.0.0.1:0"], "command": ["no-such-program"]}})
    record = ask_for_upgrade(server)
    assert record["event"] == "upgrade-failed"
    assert "no-such-program" in "\n".join(record["reasons"])
    assert server.exchange(b"x") == b"x"


def test_a_handler_that_cannot_be_loaded_leaves_the_old_one(serve: Serve, tmp_path: Path) -> None:
    file = tmp_path / "talk.py"
    file.write_text("def handle(conn):\n    conn.write(b'old')\n")
    server = serve("127.0.0.1:0", "--handler", f"{file}:handle")
    file.write_text("def handle(conn):\n    conn.write(b'new'\n")
    assert ask_for_upgrade(server)["event"] == "upgraded"
    [record] = server.wait_for_event("reload-failed")
    assert "SyntaxError" in record["mistakes"][0]
    assert server.exchange(b"") == b"old"


def test_a_lifetime_goes_on(serve: Serve) -> None:
    server = serve("127.0.0.1:0", "--max-lifetime", "1500ms", *SAYS_PID)
    with server.connect() as client:
        started = time.monotonic()
        read_line(client)
        upgrade(server)
        assert client.recv(1) == b""
        assert time.monotonic() - started >= 1.4
        end = end_of(server, peer_of(client))
    assert (end["signal"], end["ended_by"]) == ("SIGTERM", "max_lifetime")


def test_an_orphan_stays_in_the_books(serve: Serve) -> None:
    server = serve("127.0.0.1:0", "--max-connections", "1", "--when-full", "refuse", *SAYS_PID)
    before = descriptors(server.pid)
    with server.connect() as client:
        read_line(client)
        wait_until(lambda: descriptors(server.pid) == before + 1)  # its spawner has told of it; its log is read
        os.kill(spawner_of(server), signal.SIGKILL)
        server.wait_for_event("spawner-died")
        upgrade(server)
        with server.connect() as second:
            assert second.recv(1) == b""
        [refused] = server.wait_for_event("refused")
        assert refused["reason"] == "max_connections"
        assert answers(client)
        peer = peer_of(client)
    assert end_of(server, peer)["exit"] == (None if server.portable else 0)


def test_during_a_stop_there_is_no_upgrade(serve: Serve) -> None:
    server = serve("127.0.0.1:0", *SAYS_PID)
    with server.connect() as client:
        read_line(client)
        server.signal(signal.SIGTERM)
        server.wait_for_event("stopping")
        assert ask_for_upgrade(server)["reasons"] == ["the server is stopping"]
    assert server.wait() == 0


# The command.


def test_the_command_says_when_it_is_done(serve: Serve) -> None:
    server = serve("127.0.0.1:0", *SAYS_PID)
    done = command.run("upgrade", str(server.pid))
    assert (done.returncode, done.stderr) == (0, "")
    server.wait_for_event("upgraded")


def test_the_command_says_why_not(serve: Serve, tmp_path: Path) -> None:
    file = tmp_path / "tcppar.toml"
    config.write(file, {"one": {"listen": ["127.0.0.1:0"], "command": ["cat"]}})
    server = serve("-c", file)
    config.write(file, {"one": {"listen": ["127.0.0.1:0"], "comand": ["cat"]}})
    done = command.run("upgrade", str(server.pid))
    assert done.returncode == 111
    assert "not upgraded; the server's log says why" in done.stderr
    [refused] = server.wait_for_event("upgrade-failed")
    assert "comand: unknown setting; did you mean command?" in refused["reasons"][0]
    assert server.events("upgraded") == []


def test_an_upgrade_that_is_short_of_descriptors_changes_nothing(serve: Serve) -> None:
    server = serve("127.0.0.1:0", *SAYS_PID)
    with server.connect() as client:
        read_line(client)
        server.wait_for_event("spawner")
        assert ask_for_reload(server)["event"] == "reloaded"  # our copy of the connection is closed by then
        before = descriptors(server.pid)
        for free in (0, 1, 2):
            _, hard = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (before + free, hard))
            assert ask_for_upgrade(server)["event"] == "upgrade-failed"
            resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (1024, hard))
            assert ask_for_reload(server)["event"] == "reloaded"  # signals are obeyed
            wait_until(lambda: descriptors(server.pid) <= before)
            assert answers(client)
    assert [server.stop(), server.noise] == [0, []]


@pytest.mark.parametrize("options", [[], ["--keep"]], ids=["alone", "kept"])
def test_more_connections_than_the_given_limit_are_no_hindrance(options: list[str]) -> None:
    limited = ("sh", "-c", 'ulimit -Sn 48; exec "$@"', "sh")
    with Server("127.0.0.1:0", *options, *SAYS_PID, wrapper=limited) as server, ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(80)]
        for client in clients:
            read_line(client)
        upgrade(server)
        assert all(answers(client) for client in clients)


def test_the_command_takes_either_process_of_a_server_with_a_keeper() -> None:
    server = Server("127.0.0.1:0", "--keep", *SAYS_PID)
    with server:
        assert command.run("upgrade", str(server.pid)).returncode == 0
        assert command.run("upgrade", str(supervisor_of(server))).returncode == 0
        server.wait_for_event("upgraded", 2)


def test_the_command_takes_nobody_who_belongs_to_a_server(serve: Serve) -> None:
    server = serve("127.0.0.1:0", *SAYS_PID)
    with server.connect() as client:
        for pid in (spawner_of(server), int(read_line(client))):
            done = command.run("upgrade", str(pid))
            assert (done.returncode, "is not a server started by" in done.stderr) == (111, True)
        assert answers(client)


@pytest.mark.parametrize("pid", ["0", "-1", "99999999", "99999999999999999999"])
def test_the_command_takes_no_number_of_nobody(pid: str) -> None:
    done = command.run("upgrade", "--", pid)
    assert done.returncode == (100 if int(pid) < 1 else 111)
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be led to run the file of another user")
def test_the_command_runs_nothing_of_another_user(tmp_path: Path) -> None:
    trap, caught = tmp_path / "tcppar", tmp_path / "caught"
    trap.write_text(f"id -u >> {caught}\nread line\n")
    words = ["/bin/sh", str(trap), "tcppar", "serve"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, user=65534, group=65534, cwd="/") as other:
        done = command.run("upgrade", str(other.pid))
        other.communicate(b"\n")
    assert done.returncode == 111
    assert "0\n" not in (caught.read_text() if caught.exists() else "")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has children of another user")
def test_what_a_child_left_behind_does_not_answer(
    compiled: Callable[[Path], Path], open_folder: Path, tmp_path: Path
) -> None:
    program, file = open_folder / "posing", tmp_path / "tcppar.toml"
    shutil.copy(compiled(HERE / "children" / "posing.c"), program)
    service: dict[str, object] = {"listen": ["127.0.0.1:0"], "command": [str(program)], "user": "nobody"}
    config.write(file, {"one": service})
    with Server("-c", file) as server, server.connect() as client:
        client.sendall(b"%d\n" % server.pid)
        read_line(client)
        left = next_child_named(server.pid, b"tcppar serve+77\n")
        try:
            config.write(file, {"one": service | {"command": ["no-such-program"]}})
            done = command.run("upgrade", str(server.pid))
        finally:
            os.kill(left, signal.SIGKILL)
    assert "not upgraded; the server's log says why" in done.stderr


def next_child_named(pid: int, name: bytes) -> int:
    """Wait for a child of a process to have a name."""
    found: list[int] = []

    def is_found() -> bool:
        found[:] = [child for child in children_of(pid) if name_of(child) == name]
        return bool(found)

    wait_until(is_found)
    return found[0]


def name_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/comm").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def test_the_command_touches_no_other_process() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        done = command.run("upgrade", str(other.pid))
        assert done.returncode == 111
        assert "is not a server started by `tcppar serve`" in done.stderr
        assert other.stdin is not None
        other.stdin.write(b"\n")
        other.stdin.close()
        assert other.wait(PATIENCE) == 0

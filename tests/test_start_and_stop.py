"""A server's life: being ready, failing to start, reloading, resetting, losing a spawner, stopping."""

import contextlib
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from signal import Signals

import pytest

from tests.conftest import HERE, tool
from tests.support import command, config
from tests.support.command import Serve
from tests.support.config import Services
from tests.support.server import (
    PATIENCE,
    Record,
    Server,
    descendants,
    descriptors,
    parent_of,
    read_all,
    read_line,
    stat_fields,
    wait_until,
)

MANAGER = [sys.executable, str(HERE / "support" / "manager.py")]
FACTS = [sys.executable, "-I", "-S", str(HERE / "children" / "facts.py"), "0"]
CAT_AFTER_FACTS = ["sh", "-c", '"$@"; echo; exec cat', "sh", *FACTS]
# Tells its process id, and then answers what it reads.
CAT = ["sh", "-c", "echo $$; exec cat"]
STUBBORN = [sys.executable, "-I", "-S", str(HERE / "children" / "stubborn.py")]

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture(params=[False, True], ids=["full", "portable"])
def portable(request: pytest.FixtureRequest) -> bool:
    """The profile, where the `serve` fixture cannot be used."""
    return bool(request.param)


def answers(client: socket.socket, data: bytes = b"x") -> bool:
    """Whether the child of a client lives and answers."""
    client.sendall(data)
    return client.recv(len(data), socket.MSG_WAITALL) == data


def connect_unix(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    try:
        client.settimeout(PATIENCE)
        client.connect(str(path))
    except OSError:
        client.close()
        raise
    return client


def can_connect(path: Path) -> bool:
    """Whether a server is there."""
    try:
        connect_unix(path).close()
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    return True


def serves_unix(path: Path) -> bool:
    """Whether a server of `cat` is there."""
    if not can_connect(path):
        return False
    with connect_unix(path) as client:
        return answers(client)


def is_refused(server: Server, number: int = 0) -> bool:
    """Whether a new client of a listener is refused."""
    try:
        socket.create_connection(server.addresses[number], timeout=PATIENCE).close()
    except ConnectionRefusedError:
        return True
    return False


def is_over(pid: int) -> bool:
    """Whether a process has ended."""
    return stat_fields(pid)[:1] in ([], ["Z"])


class Queue:
    """A server with room for one connection, which is taken, and more clients who wait in the kernel's queue."""

    def __init__(self, server: Server, waiting: int = 3) -> None:
        self.first = server.connect()
        self._waiting: list[socket.socket] = []
        try:
            assert answers(self.first)
            for _ in range(waiting):
                self._waiting.append(server.connect())
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> "Queue":
        return self

    def all_are_served(self) -> bool:
        """Make room; whether each of those who wait is then answered, one after the other."""
        self.first.close()
        for client in self._waiting:
            if not answers(client):
                return False
            client.close()
        return True

    def __exit__(self, *_: object) -> None:
        self.first.close()
        for client in self._waiting:
            client.close()


class Wrapped(Server):
    """A server under a program that runs it as its only child, and waits for it: signals go to the server."""

    @property
    def pid(self) -> int:
        outside = self.process.pid
        return int(Path(f"/proc/{outside}/task/{outside}/children").read_text().split()[0])


# Being ready.


def test_the_ready_lines_are_exact_and_tell_the_real_ports(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    addresses = ["127.0.0.1:0", "127.0.0.2:0", "[::1]:0", f"unix:{path}"]
    server = serve("--log-format", "text", *addresses, "--", "cat", wait_ready=False)
    wait_until(lambda: len(ready_lines(server)) == len(addresses))
    lines = ready_lines(server)
    assert [re.sub(r":[1-9]\d*$", ":PORT", line) for line in lines] == [
        "listening on 127.0.0.1:PORT",
        "listening on 127.0.0.2:PORT",
        "listening on [::1]:PORT",
        f"listening on unix:{path}",
    ]
    for line in lines[:3]:
        host, _, port = line.removeprefix("listening on ").rpartition(":")
        with socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE) as client:
            assert answers(client)


def ready_lines(server: Server) -> list[str]:
    return [line for line in server.noise if line.startswith("listening")]


def test_a_bare_port_listens_on_both_families_with_the_same_number(serve: Serve) -> None:
    server = serve("0", "--", "sh", "-c", 'echo "$TCPREMOTEIP"')
    addresses = [record["address"] for record in server.wait_for_event("listening", 2)]
    port = addresses[0].rpartition(":")[2]
    assert addresses == [f"0.0.0.0:{port}", f"[::]:{port}"]
    for ip in ("127.0.0.1", "::1"):
        with socket.create_connection((ip, int(port)), timeout=PATIENCE) as client:
            assert read_all(client).decode().strip() == ip


def test_a_line_comes_on_the_ready_descriptor_and_then_its_end(serve: Serve, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    addresses = ["127.0.0.1:0", f"unix:{tmp_path}/a b"]
    with open(reader, "rb", buffering=0) as ready:
        server = serve("--ready-fd", str(writer), *addresses, "--", "cat", pass_fds=[writer], wait_ready=False)
        os.close(writer)
        line = read_pipe(ready.fileno()).decode()
        # The log may be read a moment later than that.
        server.wait_for_event("listening", 2)
        assert line == f"ready 127.0.0.1:{server.address[1]} unix:{tmp_path}/a\\040b\n"
        with server.connect() as client:
            assert answers(client)


def read_pipe(descriptor: int) -> bytes:
    """Read to the end, but not for ever."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN | select.POLLHUP)
    data = b""
    while poll.poll(PATIENCE * 1000):
        if not (piece := os.read(descriptor, 65536)):
            return data
        data += piece
    raise AssertionError(f"no end after {data!r}")


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A service manager's notification socket, and what NOTIFY_SOCKET says of it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        name = f"{tmp_path}/notify" if request.param == "path" else f"\0tcppar-test-{os.getpid()}"
        listening.bind(name)
        listening.settimeout(PATIENCE)
        yield listening, name.replace("\0", "@")


def test_the_service_manager_is_told_when_clients_are_served(serve: Serve, manager: tuple[socket.socket, str]) -> None:
    notified, name = manager
    server = serve("127.0.0.1:0", "--", "cat", environment={"NOTIFY_SOCKET": name}, wait_ready=False)
    assert notified.recv(100) == b"READY=1"
    server.wait_for_event("listening")
    with server.connect() as client:
        assert answers(client)


def test_the_service_manager_is_not_told_of_a_start_that_fails(manager: tuple[socket.socket, str]) -> None:
    notified, name = manager
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert command.run("serve", address, "--", "cat", environment={"NOTIFY_SOCKET": name}).returncode == 111
    notified.setblocking(False)
    with pytest.raises(BlockingIOError):
        notified.recv(100)


# Listeners of the service manager's.


def under_manager(listeners: dict[str, socket.socket]) -> dict[str, object]:
    """Options of a server whose service manager passes these listeners."""
    numbers = [listener.fileno() for listener in listeners.values()]
    return {"wrapper": [*MANAGER, ":".join(listeners), ",".join(map(str, numbers))], "pass_fds": numbers}


@pytest.fixture
def web() -> Iterator[socket.socket]:
    """A listener that is not the server's own."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@pytest.fixture
def mail() -> Iterator[socket.socket]:
    """Another one."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def test_a_listener_of_the_managers_is_served(serve: Serve, web: socket.socket) -> None:
    server = serve("inherited", "--", "cat", **under_manager({"web": web}))
    assert server.address == web.getsockname()
    with server.connect() as client:
        assert answers(client)


def test_a_listener_of_the_managers_is_chosen_by_name(serve: Serve, web: socket.socket, mail: socket.socket) -> None:
    server = serve("inherited:mail", "--", "cat", **under_manager({"web": web, "mail": mail}))
    assert server.address == mail.getsockname()
    with server.connect() as client:
        assert answers(client)
    assert server.stop() == 0
    assert len(server.events("listening")) == 1


def test_clients_who_come_between_two_servers_of_a_manager_are_served(serve: Serve, web: socket.socket) -> None:
    first = serve("inherited", "--", "cat", **under_manager({"web": web}))
    assert first.stop() == 0
    with socket.create_connection(web.getsockname(), timeout=PATIENCE) as client:
        serve("inherited", "--", "cat", **under_manager({"web": web}))
        assert answers(client)


def test_a_listener_that_the_manager_did_not_pass_is_told(web: socket.socket) -> None:
    options = under_manager({"web": web})
    outcome = command.run("serve", "inherited:mail", "--", "cat", **options)  # type: ignore[arg-type]
    assert_refused(outcome, 111, "inherited:mail: the service manager did not pass such a listener")


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=["connected", "datagram"])
def test_a_descriptor_of_the_managers_that_is_no_listener_is_told(kind: socket.SocketKind) -> None:
    one, other = socket.socketpair(socket.AF_UNIX, kind)
    with one, other:
        outcome = command.run("serve", "inherited", "--", "cat", **under_manager({"": one}))  # type: ignore[arg-type]
    assert_refused(outcome, 111, "descriptor 3 is not a listening stream socket")


def test_systemd_socket_activate_starts_a_server_for_its_first_client(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    kept = [f"--setenv={name}" for name in ("PYTHONPATH", "TCPPAR_PORTABLE")]
    activate = [tool("systemd-socket-activate"), f"--listen={path}", *kept]
    serve("inherited", "--", "cat", wrapper=activate, wait_ready=False)
    wait_until(path.exists)
    with connect_unix(path) as client:
        assert answers(client)


# Starts that fail.


def assert_refused(outcome: command.Completed, code: int, said: str) -> None:
    """It ended with the code and one message that says this, and nothing else."""
    assert outcome.returncode == code, outcome.stderr
    assert outcome.stderr.count("\n") == 1, outcome.stderr
    assert outcome.stderr.startswith("tcppar: ")
    assert said in outcome.stderr
    assert outcome.stdout == ""


def test_a_port_that_is_taken_is_told_with_the_process_that_has_it(serve: Serve) -> None:
    holder = serve("127.0.0.1:0", "--", "cat")
    address = "{}:{}".format(*holder.address)
    outcome = command.run("serve", address, "--", "cat")
    assert_refused(outcome, 111, f"cannot listen on {address}: EADDRINUSE")
    assert f"(pid {holder.pid})" in outcome.stderr


def test_a_port_that_is_taken_on_one_address_of_several_leaves_no_socket_file(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        outcome = command.run("serve", f"unix:{path}", address, "--", "cat")
    assert_refused(outcome, 111, f"cannot listen on {address}")
    assert not path.exists()


@only_root
def test_a_low_port_without_the_right_to_it_is_told() -> None:
    wrapper = [tool("setpriv"), "--bounding-set=-net_bind_service", "--inh-caps=-net_bind_service"]
    outcome = command.run("serve", "127.0.0.1:1", "--", "cat", wrapper=wrapper)
    assert_refused(outcome, 111, "ports below 1024 need root or CAP_NET_BIND_SERVICE")


def test_an_address_of_another_machine_is_told() -> None:
    outcome = command.run("serve", "192.0.2.1:0", "--", "cat")
    assert_refused(outcome, 111, "cannot listen on 192.0.2.1:0: EADDRNOTAVAIL")


def test_a_socket_path_that_is_too_long_is_told(tmp_path: Path) -> None:
    outcome = command.run("serve", f"unix:{tmp_path}/{'x' * 200}", "--", "cat")
    assert_refused(outcome, 100, "expected a path of at most")


@only_root
def test_a_directory_that_the_user_may_not_enter_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    options = ["--user", "nobody", "--directory", str(tmp_path), "--log-format", "json"]
    outcome = command.run("serve", "127.0.0.1:0", *options, "--", "cat")
    assert outcome.returncode == 111
    (message,) = [line for line in outcome.stderr.splitlines() if not line.startswith("{")]
    assert re.fullmatch(r"tcppar: service cat: directory: .*Permission denied", message)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["127.0.0.1:0"], "command: missing"),
        (["--", "cat"], "listen: missing"),
        (["localhost:0", "--", "cat"], "'localhost' is not a numeric address"),
        (["0", "--", "no-such-program"], "'no-such-program': no such program"),
        (["0", "--", "/etc/passwd"], "'/etc/passwd': no such program, or it is not executable"),
        (["0", "--no-such-flag", "--", "cat"], "--no-such-flag"),
        (["0", "--when-full", "maybe", "--", "cat"], "expected one of wait, refuse"),
        (["0", "--user", "no-such-user", "--", "cat"], "user: 'no-such-user': no such user"),
        (["0", "--user", "²", "--", "cat"], "user: '²': no such user"),
        (["0", "--rlimit", "nofile=99999999999999999999", "--", "cat"], "rlimits"),
        (["0", "--backlog", "99999999999", "--", "cat"], "backlog"),
        (["0", "--drain-timeout", "9" * 400, "--", "cat"], "drain_timeout"),
        (["-c", "/nonexistent.toml"], "/nonexistent.toml: cannot be read: No such file or directory"),
        (["-c", "/etc/passwd", "0", "--", "cat"], "with -c, this belongs in the file (/etc/passwd)"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_a_mistake_on_the_command_line_is_told(arguments: list[str], said: str) -> None:
    assert_refused(command.run("serve", *arguments), 100, said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[service.a]\nlisten = [", "is not TOML"),
        ('[service.a]\nlisten = ["0"]\ncommand = ["cat", "a\\u0000b"]', "service.a.command"),
    ],
)
def test_a_mistake_in_the_file_is_told(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "tcppar.toml"
    file.write_text(text)
    outcome = command.run("serve", "-c", file)
    assert_refused(outcome, 100, said)
    assert str(file) in outcome.stderr


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    outcome = command.run("serve", "nowhere", "--umask", "9", "--user", "no-such-user", "--", "no-such-program")
    assert outcome.returncode == 100
    assert len(outcome.stderr.splitlines()) == 4
    assert all(line.startswith("tcppar: ") for line in outcome.stderr.splitlines())


@pytest.mark.parametrize("arguments", [[], ["sreve"]], ids=["none", "unknown"])
def test_a_missing_or_unknown_command_is_wrong_usage(arguments: list[str]) -> None:
    outcome = command.run(*arguments)
    assert outcome.returncode == 100
    assert outcome.stderr.startswith("tcppar: " if arguments else "Usage: ")
    assert "Traceback" not in outcome.stderr


@only_root
def test_a_group_for_a_user_without_a_name_is_told() -> None:
    # Containers run programs as users that the system has no entry for.
    wrapper = [tool("setpriv"), "--reuid=54321", "--regid=54321", "--clear-groups"]
    if subprocess.run(
        [*wrapper, sys.executable, "-c", "import tcppar"], check=False, stderr=subprocess.DEVNULL
    ).returncode:
        pytest.skip("another user may not read this installation")
    outcome = command.run("serve", "127.0.0.1:0", "--group", "0", "--", "cat", wrapper=wrapper)
    assert_refused(outcome, 100, "group: '0': the server runs as user 54321, and only root can change the group")


def test_a_server_may_start_in_a_directory_that_is_gone(serve: Serve, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    enter_and_remove = ["sh", "-c", f'mkdir {gone} && cd {gone} && rmdir {gone} && exec "$@"', "sh"]
    server = serve("127.0.0.1:0", "--", "/bin/cat", wrapper=enter_and_remove)
    with server.connect() as client:
        assert answers(client)


# Odd starts.


def test_a_server_without_stdin_and_stdout_serves(serve: Serve) -> None:
    server = serve("127.0.0.1:0", "--", "cat", wrapper=["sh", "-c", 'exec "$@" <&- >&-', "sh"])
    with server.connect() as client:
        assert answers(client)
    assert server.stop() == 0


def test_a_server_without_any_standard_descriptor_serves_and_gives_null_as_the_log(
    portable: bool, tmp_path: Path
) -> None:
    path = tmp_path / "socket"
    closed = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]
    arguments = [f"unix:{path}", "--stderr", "inherit", "--", *CAT_AFTER_FACTS]
    with command.running("serve", *arguments, wrapper=closed, portable=portable) as server:
        wait_until(lambda: can_connect(path))
        with connect_unix(path) as client:
            facts = json.loads(read_line(client))
            assert answers(client)
        assert facts["descriptors"]["2"] == "/dev/null"
        server.terminate()
        assert server.wait(PATIENCE) == 0


def test_a_server_that_was_started_with_all_signals_blocked_obeys_them(serve: Serve) -> None:
    server = serve("127.0.0.1:0", "--", "cat", wrapper=[tool("env"), "--block-signal"])
    with server.connect() as client:
        assert answers(client)
    server.wait_for_event("end")
    assert server.stop(patience=5) == 0


# Stopping.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_server_stops_at_once_with_0(serve: Serve, number: Signals) -> None:
    server = serve("127.0.0.1:0", "--", "cat")
    assert server.stop(number) == 0
    assert server.events("stopping")[0]["reason"] == number.name
    assert server.records[-1]["event"] == "stopped"
    assert server.noise == []


def test_a_stop_waits_for_a_running_child(serve: Serve) -> None:
    server = serve("127.0.0.1:0", "--", "cat")
    with server.connect() as client:
        assert answers(client)
        server.signal(signal.SIGTERM)
        server.wait_for_event("closed")
        assert answers(client)
        assert server.process.poll() is None
    assert server.wait() == 0
    (end,) = server.events("end")
    assert (end["exit"], end["ended_by"]) == (0, None)


def test_a_stop_refuses_new_clients_while_a_child_runs(serve: Serve) -> None:
    server = serve("127.0.0.1:0", "--", "cat")
    with server.connect() as client:
        assert answers(client)
        server.signal(signal.SIGTERM)
        server.wait_for_event("closed")
        assert is_refused(server)


def test_a_stop_serves_those_who_are_queued(serve: Serve) -> None:
    server = serve("127.0.0.1:0", "--max-connections", "1", "--", "cat")
    with Queue(server) as queue:
        server.signal(signal.SIGTERM)
        server.wait_for_event("stopping")
        assert queue.all_are_served()
    assert server.wait() == 0
    assert server.events("stopped")[0]["ended"] == 4


def test_after_the_drain_timeout_children_get_sigterm(serve: Serve) -> None:
    server = serve("127.0.0.1:0", "--drain-timeout", "0", "--kill-timeout", "1h", "--", *CAT)
    with server.connect() as client:
        read_line(client)
        assert server.stop() == 0
        assert client.recv(1) == b""
    (end,) = server.events("end")
    assert (end["signal"], end["ended_by"]) == ("SIGTERM", "stop")


def test_after_the_kill_timeout_children_get_sigkill(serve: Serve) -> None:
    server = serve("127.0.0.1:0", "--drain-timeout", "0", "--kill-timeout", "50ms", "--", *STUBBORN)
    with server.connect() as client:
        read_line(client)
        assert server.stop() == 0
    (end,) = server.events("end")
    assert (end["signal"], end["ended_by"]) == ("SIGKILL", "stop")


@pytest.mark.parametrize("trap", ["", "trap '' TERM; "], ids=["willing", "stubborn"])
def test_a_stop_ends_grandchildren_too(serve: Serve, trap: str) -> None:
    script = f"{trap}tail -f /dev/null & echo $!; wait"
    server = serve("127.0.0.1:0", "--drain-timeout", "0", "--kill-timeout", "50ms", "--", "sh", "-c", script)
    with server.connect() as client:
        grandchild = int(read_line(client))
        assert not is_over(grandchild)
        assert server.stop() == 0
    wait_until(lambda: is_over(grandchild))


def test_a_second_interrupt_does_not_wait_for_the_drain_timeout(serve: Serve) -> None:
    server = serve("127.0.0.1:0", "--drain-timeout", "1h", "--kill-timeout", "1h", "--", *CAT)
    with server.connect() as client:
        read_line(client)
        server.signal(signal.SIGINT)
        server.wait_for_event("stopping")
        assert server.stop(signal.SIGINT) == 0
    (end,) = server.events("end")
    assert (end["signal"], end["ended_by"]) == ("SIGTERM", "stop")


def test_a_third_interrupt_does_not_wait_for_the_kill_timeout(serve: Serve) -> None:
    server = serve("127.0.0.1:0", "--drain-timeout", "1h", "--kill-timeout", "1h", "--", *STUBBORN)
    with server.connect() as client:
        pid = int(read_line(client))
        server.signal(signal.SIGINT)
        server.wait_for_event("stopping")
        server.signal(signal.SIGINT)
        assert read_line(client) == "asked"
        assert not is_over(pid)
        assert server.stop(signal.SIGINT) == 0
    (end,) = server.events("end")
    assert (end["signal"], end["ended_by"]) == ("SIGKILL", "stop")


def test_a_stop_closes_the_listeners_of_all_services_at_once(serve: Serve, tmp_path: Path) -> None:
    file = tmp_path / "tcppar.toml"
    config.write(file, {"held": {"command": ["cat"]}, "idle": {"command": ["cat"]}})
    server = serve("-c", file)
    server.wait_for_event("listening", 2)
    with connect_unix(tmp_path / "held") as client:
        assert answers(client)
        server.signal(signal.SIGTERM)
        server.wait_for_event("closed", 2)
        assert answers(client)
    assert server.wait() == 0


# Limits on connections.


def test_a_connection_ends_with_its_lifetime(serve: Serve) -> None:
    server = serve("127.0.0.1:0", "--max-lifetime", "100ms", "--", "cat")
    with server.connect() as client:
        assert client.recv(1) == b""
    (end,) = server.wait_for_event("end")
    assert (end["signal"], end["ended_by"]) == ("SIGTERM", "max_lifetime")
    assert end["duration"] >= 0.1


def test_a_stubborn_child_is_killed_after_its_lifetime(serve: Serve) -> None:
    # Long enough for it to become stubborn first, even on a busy machine.
    lifetime = ["--max-lifetime", "1s", "--kill-timeout", "100ms"]
    server = serve("127.0.0.1:0", *lifetime, "--", "sh", "-c", "trap '' TERM; exec cat")
    with server.connect() as client:
        assert client.recv(1) == b""
        (end,) = server.wait_for_event("end")
    assert (end["signal"], end["ended_by"]) == ("SIGKILL", "max_lifetime")
    assert end["duration"] >= 1.1


def test_each_connection_has_a_lifetime_of_its_own(serve: Serve) -> None:
    server = serve("127.0.0.1:0", "--max-lifetime", "150ms", "--", "cat")
    for _ in range(3):
        with server.connect() as first, server.connect() as second:
            assert first.recv(1) == second.recv(1) == b""
    ends = server.wait_for_event("end", 6)
    assert {end["ended_by"] for end in ends} == {"max_lifetime"}
    assert min(end["duration"] for end in ends) >= 0.15


def test_when_full_clients_wait_for_their_turn(serve: Serve) -> None:
    server = serve("127.0.0.1:0", "--max-connections", "1", "--", "cat")
    with Queue(server) as queue:
        assert queue.all_are_served()
    assert server.wait_for_event("end", 4)
    assert server.events("refused") == []


def test_when_full_no_more_than_the_limit_run_at_once(serve: Serve) -> None:
    server = serve("127.0.0.1:0", "--max-connections", "2", "--", *CAT)
    with ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(5)]
        read_line(clients[0])
        read_line(clients[1])
        assert children_of(server) == 2
        for number, (leaving, coming) in enumerate(zip(clients, clients[2:], strict=False), 1):
            leaving.close()
            server.wait_for_event("end", number)
            read_line(coming)
            assert children_of(server) == 2


def children_of(server: Server) -> int:
    """How many children the spawners of a server have."""
    return sum(not is_spawner(pid) for pid in descendants(server.pid))


def is_spawner(pid: int) -> bool:
    try:
        return b"tcppar" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_when_full_clients_can_be_refused_instead(serve: Serve) -> None:
    server = serve("127.0.0.1:0", "--max-connections", "1", "--when-full", "refuse", "--", "cat")
    with server.connect() as first, server.connect() as second:
        assert answers(first)
        assert second.recv(1) == b""
        (refused,) = server.wait_for_event("refused")
        assert refused["reason"] == "max_connections"
        assert refused["peer"] == "{}:{}".format(*second.getsockname())
    server.wait_for_event("end")
    with server.connect() as third:
        assert answers(third)


# Several services, and reloading them.


def reload(server: Server, file: Path, services: Services) -> Record:
    """Change the file, ask for a reload, and wait for what comes of it."""
    config.write(file, services)
    return ask_for_reload(server)


def ask_for_reload(server: Server) -> Record:
    before = len(server.events("reloaded")) + len(server.events("reload-failed"))
    server.signal(signal.SIGHUP)
    return server.wait_for(lambda record: record["event"] in ("reloaded", "reload-failed"), before + 1)[before]


def said_to(path: Path) -> str:
    """What a service's child says to a client who says nothing."""
    with connect_unix(path) as client:
        client.shutdown(socket.SHUT_WR)
        return read_all(client).decode().strip()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tcppar.toml"


OLD = {"command": ["echo", "old"]}
NEW = {"command": ["echo", "new"]}
ONE_AT_A_TIME = {"listen": ["127.0.0.1:0"], "command": ["cat"], "max_connections": 1}


def test_two_services_of_a_file_are_served(serve: Serve, file: Path) -> None:
    config.write(file, {"one": {"command": ["echo", "1"]}, "two": {"command": ["echo", "2"]}})
    server = serve("-c", file)
    server.wait_for_event("listening", 2)
    assert (said_to(file.parent / "one"), said_to(file.parent / "two")) == ("1", "2")
    assert {record["service"] for record in server.wait_for_event("end", 2)} == {"one", "two"}


def test_two_services_may_let_the_system_choose_their_ports(serve: Serve, file: Path) -> None:
    both = {name: {"listen": ["127.0.0.1:0"], "command": ["echo", name]} for name in ("one", "two")}
    config.write(file, both)
    server = serve("-c", file)
    server.wait_for_event("listening", 2)
    for number, name in enumerate(both):
        with socket.create_connection(server.addresses[number], timeout=PATIENCE) as client:
            assert read_all(client).decode().strip() == name


def test_a_stop_during_a_reload_says_nothing_but_that(serve: Serve, file: Path) -> None:
    # The new spawner is told what to be, and at once to leave.
    config.write(file, {"one": OLD})
    server = serve("-c", file)
    config.write(file, {"one": NEW})
    server.signal(signal.SIGHUP)
    server.wait_for_event("spawner", 2)
    assert server.stop() == 0
    assert server.events("stderr") == []


def test_a_spawner_of_a_reload_that_fails_is_ended_though_it_has_not_begun(serve: Serve, file: Path) -> None:
    """It was left to itself, with what it loads, or waits for."""
    config.write(file, {"one": OLD})
    server = serve("-c", file)
    (file.parent / "endless.py").write_text("import signal\nwhile True:\n    signal.pause()\n")
    endless = {"handler": "endless:handle", "directory": str(file.parent)}
    wrong = {"handler": "nowhere:handle", "directory": str(file.parent)}
    assert reload(server, file, {"one": OLD, "two": endless, "three": wrong})["event"] == "reload-failed"
    [pid] = [record["pid"] for record in server.events("spawner") if record["service"] == "two"]
    wait_until(lambda: is_over(pid))
    assert said_to(file.parent / "one") == "old"


def test_a_reload_adds_a_service(serve: Serve, file: Path) -> None:
    config.write(file, {"one": OLD})
    server = serve("-c", file)
    outcome = reload(server, file, {"one": OLD, "two": NEW})
    assert (outcome["added"], outcome["changed"], outcome["removed"]) == (["two"], [], [])
    assert said_to(file.parent / "two") == "new"


def test_a_reload_tells_of_new_listeners_only(serve: Serve, file: Path) -> None:
    config.write(file, {"one": OLD})
    server = serve("-c", file)
    reload(server, file, {"one": OLD, "two": NEW})
    server.wait_for_event("listening", 2)
    assert server.stop() == 0
    assert [record["service"] for record in server.events("listening")] == ["one", "two"]


def test_a_reload_changes_a_service(serve: Serve, file: Path) -> None:
    config.write(file, {"one": OLD})
    server = serve("-c", file)
    assert said_to(file.parent / "one") == "old"
    outcome = reload(server, file, {"one": NEW})
    assert (outcome["added"], outcome["changed"], outcome["removed"]) == ([], ["one"], [])
    assert said_to(file.parent / "one") == "new"


def test_a_reload_removes_a_service(serve: Serve, file: Path) -> None:
    config.write(file, {"one": OLD, "two": {"listen": ["127.0.0.1:0"], "command": ["cat"]}})
    server = serve("-c", file)
    server.wait_for_event("listening", 2)
    outcome = reload(server, file, {"one": OLD})
    assert (outcome["added"], outcome["changed"], outcome["removed"]) == ([], [], ["two"])
    server.wait_for_event("closed")
    assert is_refused(server)
    assert said_to(file.parent / "one") == "old"


def test_a_reload_without_a_change_changes_nothing(serve: Serve, file: Path) -> None:
    config.write(file, {"one": OLD})
    server = serve("-c", file)
    outcome = reload(server, file, {"one": OLD})
    assert (outcome["added"], outcome["changed"], outcome["removed"]) == ([], [], [])
    assert said_to(file.parent / "one") == "old"
    assert len(server.events("spawner")) == 1


def test_a_reload_without_a_file_changes_nothing(serve: Serve) -> None:
    server = serve("127.0.0.1:0", "--", "cat")
    outcome = ask_for_reload(server)
    assert (outcome["added"], outcome["changed"], outcome["removed"]) == ([], [], [])
    with server.connect() as client:
        assert answers(client)


def test_a_reload_in_a_directory_that_is_gone_ends_nobody(serve: Serve, tmp_path: Path) -> None:
    enter = tmp_path / "gone"
    enter.mkdir()
    server = serve("127.0.0.1:0", "--", "/bin/cat", cwd=enter)
    enter.rmdir()
    ask_for_reload(server)
    with server.connect() as client:
        assert answers(client)


FAULTY = {
    "no TOML": "[service.one",
    "no service": "",
    "no program": "[service.one]\nlisten = ['unix:{folder}/one']\ncommand = ['no-such-program']",
    "no such setting": "[service.one]\nlisten = ['unix:{folder}/one']\ncommand = ['echo', 'new']\nno_such_setting = 1",
    "port taken": "[service.one]\nlisten = ['unix:{folder}/one', '{taken}']\ncommand = ['echo', 'new']",
}


def test_a_faulty_file_changes_nothing_and_is_told(serve: Serve, file: Path) -> None:
    config.write(file, {"one": OLD})
    server = serve("-c", file)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = "{}:{}".format(*taken.getsockname())
        for fault, text in FAULTY.items():
            file.write_text(text.replace("{folder}", str(file.parent)).replace("{taken}", address))
            outcome = ask_for_reload(server)
            assert outcome["event"] == "reload-failed", fault
            assert outcome["mistakes"], fault
            assert said_to(file.parent / "one") == "old", fault


def test_after_a_faulty_file_a_good_one_is_put_in_force(serve: Serve, file: Path) -> None:
    config.write(file, {"one": OLD})
    server = serve("-c", file)
    assert reload(server, file, {"one": {"command": ["no-such-program"]}})["event"] == "reload-failed"
    assert reload(server, file, {"one": NEW})["event"] == "reloaded"
    assert said_to(file.parent / "one") == "new"


@only_root
def test_a_service_whose_spawner_cannot_begin_changes_nothing(serve: Serve, file: Path) -> None:
    config.write(file, {"one": OLD})
    server = serve("-c", file)
    file.parent.chmod(0o700)
    outcome = reload(server, file, {"one": {"command": ["cat"], "user": "nobody", "directory": str(file.parent)}})
    assert outcome["event"] == "reload-failed"
    assert "directory" in outcome["mistakes"][0]
    assert said_to(file.parent / "one") == "old"


def test_a_reload_that_fails_leaves_no_socket_file(serve: Serve, file: Path) -> None:
    config.write(file, {"one": OLD})
    server = serve("-c", file)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = "{}:{}".format(*taken.getsockname())
        outcome = reload(server, file, {"one": OLD, "two": NEW, "three": NEW | {"listen": [address]}})
    assert outcome["event"] == "reload-failed"
    assert not (file.parent / "two").exists()


def test_clients_who_are_queued_over_a_reload_are_served(serve: Serve, file: Path) -> None:
    config.write(file, {"one": ONE_AT_A_TIME})
    server = serve("-c", file)
    with Queue(server) as queue:
        outcome = reload(server, file, {"one": ONE_AT_A_TIME | {"environment": {"NEW": "1"}}})
        assert outcome["changed"] == ["one"]
        assert queue.all_are_served()
    assert len(server.wait_for_event("end", 4)) == 4


def test_clients_who_are_queued_at_a_service_that_is_removed_are_served(serve: Serve, file: Path) -> None:
    config.write(file, {"one": ONE_AT_A_TIME, "two": OLD})
    server = serve("-c", file)
    with Queue(server) as queue:
        assert reload(server, file, {"two": OLD})["removed"] == ["one"]
        assert queue.all_are_served()
    server.wait_for_event("closed")


def test_a_listener_that_goes_to_another_service_takes_its_queue_along(serve: Serve, file: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as chosen:
        address = "{}:{}".format(*chosen.getsockname())
    there = {"listen": [address], "max_connections": 1}
    config.write(file, {"one": there | {"command": ["cat"]}})
    server = serve("-c", file)
    with server.connect() as first, server.connect() as queued:
        assert answers(first)
        outcome = reload(server, file, {"two": there | {"command": ["echo", "two"]}})
        assert (outcome["added"], outcome["removed"]) == (["two"], ["one"])
        assert read_all(queued) == b"two\n"
        assert answers(first)


def test_a_limit_that_a_reload_raises_holds_at_once(serve: Serve, file: Path) -> None:
    config.write(file, {"one": ONE_AT_A_TIME})
    server = serve("-c", file)
    with server.connect() as first, server.connect() as second:
        assert answers(first)
        reload(server, file, {"one": ONE_AT_A_TIME | {"max_connections": 2}})
        assert answers(second)


def test_options_of_tcp_that_a_reload_changes_hold_for_listeners_that_stay(serve: Serve, file: Path) -> None:
    settings = {"listen": ["127.0.0.1:0"], "command": FACTS}
    config.write(file, {"one": settings | {"nodelay": False}})
    server = serve("-c", file)
    assert b'"nodelay": false' in server.exchange(b"")
    reload(server, file, {"one": settings | {"nodelay": True}})
    assert b'"nodelay": true' in server.exchange(b"")


CHANGED = {"command": ["cat"], "environment": {"NEW": "1"}}


def test_a_running_child_goes_on_over_a_reload_and_its_end_is_recorded(serve: Serve, file: Path) -> None:
    config.write(file, {"one": {"command": ["sh", "-c", "cat; exit 7"]}})
    server = serve("-c", file)
    with connect_unix(file.parent / "one") as client:
        assert answers(client)
        reload(server, file, {"one": CHANGED})
        assert answers(client)
    (end,) = server.wait_for_event("end")
    assert (end["exit"], end["signal"]) == (7, None)


def test_a_child_of_before_a_reload_is_ended_by_a_stop(serve: Serve, file: Path) -> None:
    config.write(file, {"one": {"command": CAT, "drain_timeout": 0}})
    server = serve("-c", file)
    with connect_unix(file.parent / "one") as client:
        read_line(client)
        reload(server, file, {"one": CHANGED | {"drain_timeout": 0}})
        assert server.stop(patience=5) == 0
    (end,) = server.events("end")
    assert (end["signal"], end["ended_by"]) == ("SIGTERM", "stop")


def test_a_child_of_a_removed_service_is_ended_by_a_stop(serve: Serve, file: Path) -> None:
    config.write(file, {"one": {"command": CAT, "drain_timeout": 0}, "two": OLD})
    server = serve("-c", file)
    with connect_unix(file.parent / "one") as client:
        read_line(client)
        assert reload(server, file, {"two": OLD})["removed"] == ["one"]
        assert server.stop(patience=5) == 0
    (end,) = server.events("end")
    assert (end["signal"], end["ended_by"]) == ("SIGTERM", "stop")


def test_a_child_of_before_a_reload_ends_with_its_lifetime(serve: Serve, file: Path) -> None:
    config.write(file, {"one": {"command": CAT, "max_lifetime": "1s"}})
    server = serve("-c", file)
    with connect_unix(file.parent / "one") as client:
        read_line(client)
        reload(server, file, {"one": CHANGED | {"max_lifetime": "1s"}})
        (end,) = server.wait_for_event("end", patience=5)
    assert (end["signal"], end["ended_by"]) == ("SIGTERM", "max_lifetime")


# Resets.


def test_clients_who_are_queued_before_a_reset_are_served(serve: Serve) -> None:
    server = serve("127.0.0.1:0", "--max-connections", "1", "--", "cat")
    with Queue(server) as queue:
        server.signal(signal.SIGUSR1)
        (reset,) = server.wait_for_event("reset")
        assert queue.all_are_served()
    # Only where the system can lead new clients elsewhere can it be certain that none is lost.
    assert reset["lossless"] is not server.portable


def test_a_listener_has_the_same_address_after_a_reset(serve: Serve) -> None:
    server = serve("127.0.0.1:0", "--", "cat")
    server.signal(signal.SIGUSR1)
    server.wait_for_event("reset")
    with server.connect() as client:
        assert answers(client)


def test_a_unix_socket_is_reset_without_losing_its_queue_or_its_file(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    server = serve(f"unix:{path}", "--max-connections", "1", "--", "cat")
    path.chmod(0o600)
    with connect_unix(path) as first, connect_unix(path) as queued:
        assert answers(first)
        server.signal(signal.SIGUSR1)
        assert server.wait_for_event("reset")[0]["lossless"] is True
        first.close()
        assert answers(queued)
    assert serves_unix(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert server.stop() == 0
    assert list(tmp_path.iterdir()) == []


def test_a_listener_of_the_managers_is_never_reset(serve: Serve, web: socket.socket) -> None:
    server = serve("inherited", "--", "cat", **under_manager({"web": web}))
    server.signal(signal.SIGUSR1)
    with server.connect() as client:
        assert answers(client)
    assert server.stop() == 0
    assert server.events("stopped")[0]["resets"] == 0


# A spawner that dies.


def kill_spawner(server: Server) -> Record:
    """Kill the only spawner; the record that tells of it."""
    (spawner,) = server.wait_for_event("spawner")
    os.kill(spawner["pid"], signal.SIGKILL)
    return server.wait_for_event("spawner-died")[0]


@contextlib.contextmanager
def taken_client(server: Server) -> Iterator[socket.socket]:
    """A client whose child the supervisor knows of: it has closed its own copy of the connection, and reads the log."""
    before = descriptors(server.pid)
    with server.connect() as client:
        client.sendall(b"\n")
        assert client.recv(1, socket.MSG_PEEK)
        wait_until(lambda: descriptors(server.pid) == before + 1)
        yield client


def test_the_children_of_a_killed_spawner_go_on(serve: Serve) -> None:
    server = serve("127.0.0.1:0", "--", "cat")
    with taken_client(server) as client:
        died = kill_spawner(server)
        assert (died["outcome"], died["children"]) == ("signal SIGKILL", 1)
        assert client.recv(1) == b"\n"
        assert answers(client)


def test_a_new_spawner_serves_after_one_was_killed(serve: Serve) -> None:
    server = serve("127.0.0.1:0", "--", "cat")
    kill_spawner(server)
    with server.connect() as client:
        assert answers(client)


def test_the_children_of_a_killed_spawner_still_count(serve: Serve) -> None:
    server = serve("127.0.0.1:0", "--max-connections", "1", "--when-full", "refuse", "--", "cat")
    with taken_client(server):
        kill_spawner(server)
        with server.connect() as second:
            assert second.recv(1) == b""
        server.wait_for_event("refused")
    server.wait_for_event("end")
    with server.connect() as third:
        assert answers(third)


def test_the_exit_code_of_an_orphan_is_recorded_where_the_system_tells_it(serve: Serve) -> None:
    server = serve("127.0.0.1:0", "--", "sh", "-c", "cat; exit 7")
    with taken_client(server):
        kill_spawner(server)
    (end,) = server.wait_for_event("end")
    assert (end["exit"], end["signal"]) == (None if server.portable else 7, None)


def test_an_orphan_is_ended_by_a_stop(serve: Serve) -> None:
    server = serve("127.0.0.1:0", "--drain-timeout", "0", "--", *CAT)
    with taken_client(server) as client:
        pid = int(read_line(client))
        kill_spawner(server)
        assert server.stop() == 0
        wait_until(lambda: is_over(pid))
    assert server.events("end")[0]["ended_by"] == "stop"


def test_the_control_file_of_an_orphan_is_removed_when_it_ends(serve: Serve) -> None:
    server = serve("127.0.0.1:0", "--control-file", "x", "--", "sh", "-c", "echo $1; exec cat", "sh", "{ctl}")
    with taken_client(server) as client:
        path = Path(read_line(client))
        kill_spawner(server)
        assert path.exists()
    server.wait_for_event("end")
    wait_until(lambda: not path.exists(), patience=5)


# In the portable profile nobody inherits the orphan: its connection is offered again, and may get two children.
@pytest.mark.parametrize("serve", ["full"], indirect=True)
def test_a_child_cannot_end_the_server_by_what_it_puts_in_its_control_files_place(serve: Serve) -> None:
    script = 'rm "$1" && mkdir "$1"; echo; cat'
    server = serve("127.0.0.1:0", "--control-file", "x", "--", "sh", "-c", script, "sh", "{ctl}")
    with taken_client(server):
        kill_spawner(server)
    server.wait_for_event("end")
    assert server.stop() == 0


@pytest.mark.parametrize("serve", ["full"], indirect=True)
def test_a_spawner_that_is_killed_before_it_can_tell_of_a_child_gives_no_connection_two(serve: Serve) -> None:
    server = serve("127.0.0.1:0", "--", "sh", "-c", "echo hello; cat")
    (spawner,) = server.wait_for_event("spawner")
    # The first thing that it sends from now on is that it has made the child: it dies instead.
    fault = ["-e", "trace=sendto,sendmsg", "-e", "inject=sendto,sendmsg:error=EPIPE:signal=KILL:when=1"]
    strace = subprocess.Popen([tool("strace"), "-qq", "-o", os.devnull, *fault, "-p", str(spawner["pid"])])
    status = Path(f"/proc/{spawner['pid']}/status")
    wait_until(lambda: f"TracerPid:\t{strace.pid}\n" in status.read_text())
    with server.connect() as client:
        assert read_line(client) == "hello"
        server.wait_for_event("spawner-died")
        strace.wait(PATIENCE)
        client.sendall(b"x")
        client.shutdown(socket.SHUT_WR)
        # Whether it goes on with the child that it has or is closed: another one never greets it.
        assert read_all(client) in (b"x", b"")


# Process 1, and strangers.


def first_process(*arguments: str | Path, portable: bool) -> Wrapped:
    """A server that is process 1 of a world of its own; unshare ends with its exit code."""
    wrapper = [tool("unshare"), "--pid", "--fork", "--mount-proc", "--kill-child"]
    return Wrapped(*arguments, portable=portable, wrapper=wrapper)


# Leaves a process behind that reads from a pipe of the test's.
LEAVE_A_STRANGER = 'sh -c "echo \\$\\$; read wait <$1" >&2 & read wait'


def assert_reaps_a_stranger(server: Server, pipe: Path) -> None:
    """A process that a child leaves behind becomes the server's when the child ends, and no zombie when it ends."""
    with server.connect() as client:
        server.wait_for(lambda record: record["event"] == "stderr" and record["line"].isdigit())
        client.sendall(b"\n")
        assert client.recv(1) == b""
    server.wait_for_event("end")
    (stranger,) = [pid for pid in descendants(server.pid) if not is_spawner(pid)]
    parent = parent_of(stranger)
    assert parent is not None
    assert server.pid in (parent, parent_of(parent))  # the keeper's child, where there is a keeper
    pipe.write_text("end\n")
    wait_until(lambda: stat_fields(stranger) == [])


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


@only_root
def test_process_1_leaves_no_zombie(portable: bool, pipe: Path) -> None:
    with first_process("127.0.0.1:0", "--", "sh", "-c", LEAVE_A_STRANGER, "sh", pipe, portable=portable) as server:
        assert_reaps_a_stranger(server, pipe)


def test_a_process_that_a_child_leaves_behind_becomes_no_zombie(pipe: Path) -> None:
    # In the portable profile it goes to the system's own process 1.
    with Server("127.0.0.1:0", "--", "sh", "-c", LEAVE_A_STRANGER, "sh", pipe) as server:
        assert_reaps_a_stranger(server, pipe)


@only_root
def test_process_1_stops_with_0(portable: bool) -> None:
    with first_process("127.0.0.1:0", "--", "cat", portable=portable) as server:
        with server.connect() as client:
            assert answers(client)
        assert server.stop() == 0


# A log that cannot be written.


def assert_goes_on(server: "subprocess.Popen[bytes]", path: Path) -> None:
    """It serves, again and again. (It is killed then, for with such a log it takes its time to stop.)"""
    for _ in range(3):
        wait_until(lambda: serves_unix(path))
    assert server.poll() is None
    server.kill()


@pytest.fixture
def full_pipe() -> Iterator[tuple[int, int]]:
    """A pipe with no room left, as both its ends."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    for size in (4096, 1):  # the last page takes single bytes only
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writer, b"." * size)
    os.set_blocking(writer, True)
    yield reader, writer
    for end in (reader, writer):
        os.close(end)


def test_a_log_that_nobody_reads_any_more_stops_nobody(portable: bool, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    path = tmp_path / "socket"
    with command.running("serve", f"unix:{path}", "--", "cat", stderr=writer, portable=portable) as server:
        os.close(writer)
        assert_goes_on(server, path)


def test_a_full_pipe_as_log_stops_nobody(portable: bool, tmp_path: Path, full_pipe: tuple[int, int]) -> None:
    path = tmp_path / "socket"
    with command.running("serve", f"unix:{path}", "--", "cat", stderr=full_pipe[1], portable=portable) as server:
        assert_goes_on(server, path)


def test_a_full_device_as_log_stops_nobody(portable: bool, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with (
        open("/dev/full", "wb") as full,
        command.running("serve", f"unix:{path}", "--", "cat", stderr=full, portable=portable) as server,
    ):
        assert_goes_on(server, path)


def test_a_server_with_a_full_pipe_as_log_stops_all_the_same(tmp_path: Path, full_pipe: tuple[int, int]) -> None:
    path = tmp_path / "socket"
    with command.running("serve", f"unix:{path}", "--", "cat", stderr=full_pipe[1]) as server:
        wait_until(lambda: serves_unix(path))
        server.terminate()
        assert server.wait(PATIENCE) == 0


def test_what_a_full_pipe_kept_back_is_written_when_it_is_read(
    portable: bool, tmp_path: Path, full_pipe: tuple[int, int]
) -> None:
    path = tmp_path / "socket"
    reader, writer = full_pipe
    with command.running("serve", f"unix:{path}", "--", "cat", stderr=writer, portable=portable):
        wait_until(lambda: serves_unix(path))
        said = b""
        wanted = f"listening on unix:{path}\n".encode()
        while wanted not in said:
            assert select.select([reader], [], [], PATIENCE)[0], "nothing more is written"
            said += os.read(reader, 65536)


# What must not end it.


def test_a_program_that_vanished_costs_its_clients_only(serve: Serve, tmp_path: Path) -> None:
    program = tmp_path / "program"
    shutil.copy(tool("cat"), program)
    server = serve("127.0.0.1:0", "--", program)
    hidden = program.rename(tmp_path / "hidden")
    with server.connect() as client:
        assert client.recv(1) == b""
    (refused,) = server.wait_for_event("refused")
    assert refused["reason"] == "spawn_failed"
    assert "ENOENT" in refused["detail"]
    hidden.rename(program)
    with server.connect() as client:
        assert answers(client)


def test_a_program_that_may_not_be_run_any_more_costs_its_clients_only(serve: Serve, tmp_path: Path) -> None:
    program = tmp_path / "program"
    shutil.copy(tool("cat"), program)
    server = serve("127.0.0.1:0", "--rlimit", "core=0", "--", program)
    program.chmod(0o644)
    with server.connect() as client:
        assert client.recv(1) == b""
    (refused,) = server.wait_for_event("refused")
    assert (refused["reason"], "EACCES" in refused["detail"]) == ("spawn_failed", True)


def test_signals_that_mean_nothing_to_it_do_not_end_it(serve: Serve) -> None:
    server = serve("127.0.0.1:0", "--", "cat")
    for name in ("USR2", "ALRM", "VTALRM", "PIPE", "IO", "WINCH", "URG", "CONT"):
        server.signal(signal.Signals[f"SIG{name}"])
        with server.connect() as client:
            assert answers(client)
    assert server.stop() == 0

"""Descriptor 2 of a child is its own: whatever it does with it, others do not notice; and each line is known by it."""

import errno
import json
import os
import pty
import signal
import socket
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tcppar.events import ChildOutput, Event, Fault
from tcppar.net import platform
from tcppar.net.waiter import Waiter
from tcppar.policy.strikes import Strikes
from tcppar.settings import LogFormat
from tcppar.supervisor.core import Core
from tcppar.supervisor.dispatch import child_logs
from tcppar.supervisor.dispatch.child_logs import ChildLogs
from tcppar.supervisor.snapshot import PipeRecord, inode_of
from tests.support import command
from tests.support.command import Serve
from tests.support.handlers import children_of
from tests.support.server import Server, descriptors, read_all, read_line, stop_process, wait_until
from tests.support.succession import KINDS, kill_supervisor, supervisor_of, upgrade
from tests.test_keeper import kept

# Runs the line of shell that its client sends.
SHELL = ("--", "sh", "-c", 'read -r line; eval "$line"')
SHUT_DOWN = "import os, socket; s = socket.socket(fileno=2); s.shutdown(socket.SHUT_RDWR)"


@pytest.fixture
def server(serve: Serve) -> Server:
    return serve("127.0.0.1:0", *SHELL)


def run(server: Server, script: str) -> str:
    return server.exchange(f"{script}\n".encode()).decode()


def ids_of(server: Server, line: str, count: int = 1) -> set[str | None]:
    """The connections that a line was told of."""
    return {record["id"] for record in server.wait_for(lambda r: r["event"] == "stderr" and r["line"] == line, count)}


# What one does, another does not notice.


@pytest.mark.parametrize(
    "deed", [f"python3 -c '{SHUT_DOWN}'", "exec 2>&-", "exec 2</dev/null"], ids=["shut", "close", "lead away"]
)
def test_the_end_of_ones_descriptor_2_is_nobody_elses(server: Server, deed: str) -> None:
    with server.connect() as present:
        present.sendall(b"echo begun; read go; echo present >&2; ")
        run(server, f"{deed}; echo done")
        present.sendall(b"echo served\n")
        assert read_line(present) == "begun"
        present.sendall(b"go\n")
        assert read_line(present) == "served"
    ids_of(server, "present")
    assert run(server, "echo later >&2; echo served") == "served\n"
    ids_of(server, "later")


LOCKED = """
import os, signal, socket, time
silent, other = socket.socketpair()
if (pid := os.fork()) == 0:
    os.setsid(), os.close(0), os.close(1)
    signal.alarm(10)
    os.splice(silent.fileno(), 2, 4096)
    os._exit(0)
while open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] not in "SZ":
    pass  # until it waits in that call; what is no pipe refuses it
"""


def test_whoever_holds_its_descriptor_2_in_a_call_holds_nobody_up(server: Server, tmp_path: Path) -> None:
    """In a pipe, a splice that waits locks out every read, FIONREAD and close of the other end, for ever."""
    (program := tmp_path / "locked.py").write_text(LOCKED)
    assert run(server, f"exec {sys.executable} {program}") == ""
    server.wait_for_event("end", patience=5)
    assert run(server, "echo served") == "served\n"


class SlowLog:
    """Reads a server's log no faster than 100 kilobytes a second."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._text = b""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while piece := os.read(self._descriptor, 5000):
            self._text += piece
            self._over.wait(0.05)

    def lines(self) -> list[dict[str, object]]:
        """All records that have come."""
        return [json.loads(line) for line in self._text.split(b"\n")[:-1]]

    def address(self) -> tuple[str, int]:
        """Where the server listens."""
        found: list[str] = []

        def listens() -> bool:
            found[:] = [str(record["address"]) for record in self.lines() if record["event"] == "listening"]
            return bool(found)

        wait_until(listens)
        host, _, port = found[0].rpartition(":")
        return host, int(port)

    def stop(self) -> None:
        """Read the rest at once."""
        self._over.set()
        self._thread.join()


@contextmanager
def slow_log(*arguments: str) -> Iterator[SlowLog]:
    reader, writer = os.pipe()
    with command.running("serve", "--log-format", "json", *arguments, stderr=writer):
        os.close(writer)
        log = SlowLog(reader)
        yield log
    log.stop()
    os.close(reader)


def test_who_floods_the_log_holds_nobody_up_and_hides_nobodys_line() -> None:
    with slow_log("127.0.0.1:0", "--kill-timeout", "0.1", "--drain-timeout", "0", *SHELL) as log:
        address = log.address()
        with socket.create_connection(address) as first, socket.create_connection(address) as second:
            for flooding in (first, second):
                flooding.sendall(b"exec yes 'a line of those that nobody wants to read' >&2\n")
            wait_until(lambda: sum(record["event"] == "stderr" for record in log.lines()) > 1000)
            for number in range(5):
                with socket.create_connection(address, timeout=10) as client:
                    client.sendall(f"echo short {number} >&2; echo served\n".encode())
                    assert read_all(client) == b"served\n"
            wait_until(lambda: sum(str(record.get("line", "")).startswith("short") for record in log.lines()) == 5)
            # Both have had their share.
            told = [record["id"] for record in log.lines() if str(record.get("line", "")).startswith("a line")]
            shares = sorted(told.count(one) for one in set(told))
            assert len(shares) == 2
            assert shares[0] > shares[1] / 2


# Whose a line is.


def test_lines_of_short_lived_processes_in_sessions_of_their_own_have_the_connections_id(server: Server) -> None:
    script = "echo $TCPPAR_CONNECTION_ID; for n in 1 2 3 4 5 6 7 8 9; do setsid sh -c 'echo below >&2' & done; wait"
    known = run(server, script).strip()
    assert ids_of(server, "below", 9) == {known}


def test_a_process_that_a_child_left_behind_writes_on_with_the_connections_id(server: Server, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    known = run(server, f"echo $TCPPAR_CONNECTION_ID; (read go < {gate}; echo behind >&2) > /dev/null < /dev/null &")
    server.wait_for_event("end")
    gate.write_text("go\n")
    assert ids_of(server, "behind") == {known.strip()}


def test_what_was_said_last_stands_before_the_end(server: Server) -> None:
    run(server, "echo last words >&2")
    (end,) = server.wait_for_event("end")
    events = [record["event"] for record in server.records]
    assert events.index("stderr") < events.index("end")
    assert ids_of(server, "last words") == {end["id"]}


# Nothing is left.

EACH_MODE = {
    "log": SHELL,
    "inherit": ("--stderr", "inherit", *SHELL),
    "null": ("--stderr", "null", *SHELL),
    "limits": ("--rlimit", "core=0", *SHELL),
}


@pytest.mark.parametrize("mode", EACH_MODE)
def test_many_connections_leave_no_descriptor(serve: Serve, mode: str) -> None:
    server = serve("127.0.0.1:0", "--spawners", "1", *EACH_MODE[mode])
    run(server, "true")
    server.wait_for_event("end")
    [spawner] = {record["pid"] for record in server.events("spawner")}
    before = descriptors(server.pid), descriptors(spawner)
    for number in range(40):
        run(server, f"echo {number} >&2" if number % 2 else "true")
    server.wait_for_event("end", 41)
    wait_until(lambda: (descriptors(server.pid), descriptors(spawner)) == before)


@pytest.mark.parametrize("kind", ["fork", "pool"])
def test_many_conversations_of_handlers_leave_no_descriptor(serve: Serve, kind: str) -> None:
    server = serve("127.0.0.1:0", "--spawners", "1", *KINDS[kind])
    for number in range(20):
        with server.connect() as client:
            read_line(client)
        server.wait_for_event("end", number + 1)
        if number == 3:
            before = descriptors(server.pid)
    wait_until(lambda: descriptors(server.pid) == before)


# From one supervisor to the next.


SAYS_HALF = ("--", "sh", "-c", "printf half >&2; echo $TCPPAR_CONNECTION_ID; read go; echo ' and half' >&2; echo said")


def test_a_line_of_which_a_part_has_been_read_survives_an_upgrade(serve: Serve) -> None:
    server = serve("127.0.0.1:0", *SAYS_HALF)
    with server.connect() as client:
        known = read_line(client)
        # Its end is told after the part of the line was read: both are looked at in their order.
        server.exchange(b"go\n")
        server.wait_for_event("end")
        upgrade(server)
        client.sendall(b"go\n")
        assert read_line(client) == "said"
    assert known in ids_of(server, "half and half", 2)


def test_a_line_that_nobody_has_read_survives_a_death() -> None:
    script = b"echo $TCPPAR_CONNECTION_ID; read go; echo unread >&2; echo said; read more; echo later >&2\n"
    with kept("127.0.0.1:0", *SHELL) as server:
        with server.connect() as client:
            client.sendall(script)
            known = read_line(client)
            stop_process(supervisor_of(server))
            client.sendall(b"go\n")
            assert read_line(client) == "said"
            kill_supervisor(server)
            assert ids_of(server, "unread") == {known}
            client.sendall(b"more\n")
        assert ids_of(server, "later") == {known}


def test_those_left_behind_may_end_while_nobody_serves() -> None:
    """Their log is at its end when it is taken over, and closed at once: its number was closed once more."""
    with kept("127.0.0.1:0", *SHELL) as server:
        left = int(run(server, "sleep 1000 <&- >&- & echo $!"))
        server.wait_for_event("end")
        stop_process(supervisor_of(server))
        os.kill(left, signal.SIGKILL)
        kill_supervisor(server)
        assert run(server, "echo served") == "served\n"
        assert len(server.events("recovered")) == 1
        assert not [line for line in server.noise if "EBADF" in line]


# Those that are left behind are few.


class Told:
    """A log that keeps what it is told."""

    congested = False
    due_at = float("inf")

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def flush(self) -> None: ...
    def finish(self, patience: float, /) -> None: ...
    def use(self, log_format: LogFormat, /) -> None: ...


@pytest.fixture
def core() -> Iterator[Core]:
    waiter = Waiter(use_epoll=True, strikes=Strikes(3))
    yield Core(waiter=waiter, log=Told(), features=platform.detect(), id_prefix="prefix")
    for descriptor in waiter.descriptors:
        # The epoll object closes its own, when it is freed; by then the number can be another one's.
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            os.close(descriptor)


def leave_behind(logs: ChildLogs, number: int) -> int:
    """A log of a conversation that is over, which a process still has; its end."""
    reader, writer = logs.pair()
    os.write(writer, b"%d\n" % number)
    logs.follow_left_behind(PipeRecord(reader, inode_of(reader), "service", f"prefix-{number}", 7))
    return writer


@pytest.fixture
def left_behind(core: Core) -> Iterator[Callable[[int], list[int]]]:
    """Leaves so many behind."""
    logs = ChildLogs(core)
    writers: list[int] = []

    def leave(count: int) -> list[int]:
        writers.extend(leave_behind(logs, number) for number in range(count))
        return writers

    yield leave
    logs.finish()
    for writer in writers:
        os.close(writer)


def is_read(writer: int) -> bool:
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        os.write(writer, b"\n")
    except BrokenPipeError:
        return False
    return True


def test_of_those_left_behind_the_eldest_is_given_up_when_there_are_too_many(
    core: Core, left_behind: Callable[[int], list[int]]
) -> None:
    writers = left_behind(child_logs._MOST_LEFT_BEHIND + 3)
    assert [is_read(writer) for writer in writers] == [False] * 3 + [True] * child_logs._MOST_LEFT_BEHIND
    told = core.log.events  # type: ignore[attr-defined]
    assert sum(isinstance(event, Fault) for event in told) == 1
    assert {event.line for event in told if isinstance(event, ChildOutput)} >= {"0", "1", "2"}


def test_those_left_behind_are_given_up_first_when_descriptors_are_short(
    core: Core, left_behind: Callable[[int], list[int]]
) -> None:
    writers = left_behind(3)
    core.fell_short(errno.ENOMEM)
    assert all(map(is_read, writers))
    core.fell_short(errno.EMFILE)
    assert not any(map(is_read, writers))


# Children and spawners: limits, sessions, and who ends first.


def test_children_have_the_soft_limit_that_the_server_was_started_with(serve: Serve) -> None:
    wrapper = ("sh", "-c", 'ulimit -Sn 300; exec "$@"', "sh")
    server = serve("127.0.0.1:0", *SHELL, wrapper=wrapper)
    hard = run(server, "ulimit -Hn").strip()
    assert run(server, "ulimit -Sn") == "300\n"
    [line] = [line for line in Path(f"/proc/{server.pid}/limits").read_text().splitlines() if "open files" in line]
    assert line.split()[3:5] == [hard, hard]
    upgrade(server)
    assert run(server, "ulimit -Sn") == "300\n"


def score(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


@pytest.mark.parametrize("kind", KINDS)
def test_children_are_ended_first_and_the_supervisor_last_when_memory_is_short(kind: str) -> None:
    with kept("127.0.0.1:0", *KINDS[kind]) as server, server.connect() as client:
        child = int(read_line(client))
        [spawner] = {record["pid"] for record in server.events("spawner")}
        own = score(os.getpid())
        wait_until(lambda: score(spawner) < score(child))
        assert score(child) == 500 > score(spawner) > score(supervisor_of(server)) == score(server.pid) == own


@pytest.mark.parametrize("kind", KINDS)
def test_the_score_of_children_is_a_setting(serve: Serve, kind: str) -> None:
    server = serve("127.0.0.1:0", "--oom-score-adj", "900", *KINDS[kind])
    with server.connect() as client:
        assert score(int(read_line(client))) == 900


@pytest.mark.parametrize("kind", KINDS)
def test_children_lead_sessions_and_spawners_and_workers_groups_of_their_own(serve: Serve, kind: str) -> None:
    server = serve("127.0.0.1:0", *KINDS[kind])
    with server.connect() as client:
        child = int(read_line(client))
        [spawner] = {record["pid"] for record in server.events("spawner")}
        ours = os.getsid(server.pid)
        assert [os.getsid(pid) for pid in (child, spawner)] == [ours if kind == "pool" else child, ours]
        assert [os.getpgid(pid) for pid in (child, spawner)] == [child, spawner]
        assert child in children_of(spawner)


TERMINAL = """
import fcntl, os, sys, termios
said = []
try:
    os.open("/dev/tty", os.O_RDWR)
except OSError as error:
    said.append(error.errno)
try:
    fcntl.ioctl(2, termios.TIOCSTI, b"x")
except OSError as error:
    said.append(error.errno)
print(*said)
"""


def test_a_child_has_nothing_of_the_terminal_that_the_server_was_started_from(tmp_path: Path) -> None:
    """With descriptor 2 leading to it: one could type there, and one that read it was stopped, and its client hung."""
    master, terminal = pty.openpty()
    wrapper = ("setsid", "--ctty", "--wait")
    # Root may type anywhere.
    user = ("--user", "nobody") if os.getuid() == 0 else ()
    where = ("serve", f"unix:{tmp_path}/socket", "--stderr", "inherit", *user)
    arguments = (*where, "--", os.path.realpath(sys.executable), "-I", "-S", "-c", TERMINAL)
    with command.running(*arguments, wrapper=wrapper, stdin=terminal, stderr=terminal):
        wait_until(lambda: b"listening on" in os.read(master, 4096))
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(30)
            client.connect(str(tmp_path / "socket"))
            client.shutdown(socket.SHUT_WR)
            first, second = map(int, read_all(client).split())
    assert first == errno.ENXIO
    assert second in (errno.EPERM, errno.EIO)  # or nobody at all may (dev.tty.legacy_tiocsti)
    for end in (master, terminal):
        os.close(end)

"""What a service manager passes and expects: listeners of all kinds, the watchdog, lines with priorities."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.conftest import HERE, unavailable
from tests.support import command
from tests.support.command import Serve
from tests.support.server import PATIENCE, read_all, stop_process

MANAGER = [sys.executable, str(HERE / "support" / "manager.py")]
TELLS = ["sh", "-c", 'echo "$TCPREMOTEIP $TCPLOCALIP $REMOTE_ADDR"']


# Listeners.


@pytest.fixture
def dual() -> Iterator[socket.socket]:
    """What systemd makes of `ListenStream=PORT`."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        yield listener


def passing(listener: socket.socket) -> dict[str, object]:
    """Options of a server to which a manager passes this one."""
    return {"wrapper": [*MANAGER, "", str(listener.fileno())], "pass_fds": [listener.fileno()]}


def test_ipv4_clients_of_a_listener_for_both_families_are_told_as_such(serve: Serve, dual: socket.socket) -> None:
    server = serve("inherited", "--", *TELLS, **passing(dual))
    said = {}
    for ip in ("127.0.0.1", "::1"):
        with socket.create_connection((ip, dual.getsockname()[1]), timeout=PATIENCE) as client:
            said[ip] = read_all(client).decode().split()
    assert said == {ip: [ip] * 3 for ip in said}
    peers = {record["peer"].rpartition(":")[0] for record in server.wait_for_event("end", 2)}
    assert peers == {"127.0.0.1", "[::1]"}


@pytest.mark.parametrize("mode", ["fork", "pool"])
def test_handlers_are_told_so_too(serve: Serve, dual: socket.socket, mode: str, tmp_path: Path) -> None:
    (tmp_path / "who.py").write_text(
        "import socketserver\n"
        "class Handler(socketserver.BaseRequestHandler):\n"
        "    def handle(self):\n"
        "        self.request.sendall(repr((self.client_address[0], self.server.server_address[0])).encode())\n"
    )
    serve("inherited", "--handler", f"{tmp_path}/who.py:Handler", "--mode", mode, **passing(dual))
    with socket.create_connection(("127.0.0.1", dual.getsockname()[1]), timeout=PATIENCE) as client:
        assert read_all(client) == b"('127.0.0.1', '127.0.0.1')"


def test_a_keeper_passes_listeners_on(dual: socket.socket) -> None:
    options = passing(dual)
    with (
        command.running("serve", "--keep", "inherited", "--", *TELLS, stderr=subprocess.DEVNULL, **options) as server,  # type: ignore[arg-type]
        socket.create_connection(("127.0.0.1", dual.getsockname()[1]), timeout=PATIENCE) as client,
    ):
        assert read_all(client).startswith(b"127.0.0.1 ")
        assert server.poll() is None


def assert_refused(outcome: command.Completed, said: str) -> None:
    assert outcome.returncode == 111, outcome.stderr
    assert outcome.stderr.startswith("tcppar: cannot listen on inherited: ")
    assert outcome.stderr.count("\n") == 1
    assert said in outcome.stderr


def test_a_listener_of_a_family_that_is_not_served_is_told() -> None:
    try:
        vsock = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
        vsock.bind((socket.VMADDR_CID_ANY, socket.VMADDR_PORT_ANY))
        vsock.listen()
    except (AttributeError, OSError) as error:
        pytest.skip(f"this system has no AF_VSOCK: {error}")
    with vsock:
        outcome = command.run("serve", "inherited", "--", "cat", **passing(vsock))  # type: ignore[arg-type]
    assert_refused(outcome, "descriptor 3 has the address family AF_VSOCK: expected")


def test_one_of_another_protocol_is_told() -> None:
    try:
        other = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP)
        other.bind(("127.0.0.1", 0))
        other.listen()
    except OSError as error:
        pytest.skip(f"this system has no SCTP: {error}")
    with other:
        outcome = command.run("serve", "inherited", "--", "cat", **passing(other))  # type: ignore[arg-type]
    assert_refused(outcome, "descriptor 3 is of protocol 132, and not of TCP")


@pytest.mark.parametrize("number", ["abc", "-1", "1.5", "", "99999999999999999999", "٣", "3 "])
def test_a_number_of_listeners_that_is_none_is_told(number: str) -> None:
    script = "import os, sys; os.environ['LISTEN_PID'] = str(os.getpid()); os.execv(sys.argv[1], sys.argv[1:])"
    wrapper = [sys.executable, "-c", script]
    outcome = command.run("serve", "inherited", "--", "cat", environment={"LISTEN_FDS": number}, wrapper=wrapper)
    assert_refused(outcome, f"LISTEN_FDS={number!r}: expected a number")


def test_a_number_for_which_no_listener_is_there_is_told() -> None:
    script = "import os, sys; os.environ['LISTEN_PID'] = str(os.getpid()); os.execv(sys.argv[1], sys.argv[1:])"
    wrapper = [sys.executable, "-c", script]
    outcome = command.run("serve", "inherited", "--", "cat", environment={"LISTEN_FDS": "1"}, wrapper=wrapper)
    assert_refused(outcome, "descriptor 3: ")


# The watchdog.

PERIOD = 0.4


class Notified:
    """A service manager's socket."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(PATIENCE)
        self.environment = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": str(int(PERIOD * 1_000_000))}

    def wait_for(self, state: bytes) -> float:
        """When it comes."""
        while self.socket.recv(100) != state:
            pass
        return time.monotonic()

    def comes_within(self, seconds: float) -> bool:
        self.socket.settimeout(seconds)
        try:
            self.wait_for(b"WATCHDOG=1")
        except TimeoutError:
            return False
        finally:
            self.socket.settimeout(PATIENCE)
        return True

    def drain(self) -> None:
        self.socket.setblocking(False)
        try:
            while self.socket.recv(100):
                pass
        except BlockingIOError:
            self.socket.settimeout(PATIENCE)


@pytest.fixture
def notified(tmp_path: Path) -> Iterator[Notified]:
    manager = Notified(tmp_path / "notify")
    yield manager
    manager.socket.close()


def test_the_watchdog_is_answered_in_time(serve: Serve, notified: Notified) -> None:
    server = serve("127.0.0.1:0", "--", "cat", environment=notified.environment)
    times = [notified.wait_for(b"WATCHDOG=1") for _ in range(6)]
    gaps = sorted(later - earlier for earlier, later in pairwise(times))
    assert gaps[len(gaps) // 2] < PERIOD, "the median: others may take the processor now and then"
    with server.connect() as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"


def test_who_does_not_turn_does_not_answer(serve: Serve, notified: Notified) -> None:
    server = serve("127.0.0.1:0", "--", "cat", environment=notified.environment)
    notified.wait_for(b"WATCHDOG=1")
    stop_process(server.pid)
    try:
        notified.drain()
        assert not notified.comes_within(2 * PERIOD)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    notified.wait_for(b"WATCHDOG=1")


def test_it_is_answered_during_a_stop(serve: Serve, notified: Notified) -> None:
    server = serve("127.0.0.1:0", "--", "cat", environment=notified.environment)
    with server.connect() as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        server.signal(signal.SIGTERM)
        server.wait_for_event("closed")
        notified.drain()
        notified.wait_for(b"WATCHDOG=1")


def test_that_of_another_process_is_not_answered(serve: Serve, notified: Notified) -> None:
    serve("127.0.0.1:0", "--", "cat", environment=notified.environment | {"WATCHDOG_PID": "1"})
    notified.wait_for(b"READY=1")
    assert not notified.comes_within(2 * PERIOD)


@pytest.mark.parametrize("period", ["", "0", "abc", "-1", "1e9"])
def test_a_period_that_is_none_is_no_watchdog(serve: Serve, notified: Notified, period: str) -> None:
    serve("127.0.0.1:0", "--", "cat", environment=notified.environment | {"WATCHDOG_USEC": period})
    notified.wait_for(b"READY=1")
    assert not notified.comes_within(PERIOD)


def test_the_supervisor_answers_for_its_keeper(notified: Notified, tmp_path: Path) -> None:
    if not sys.platform.startswith("linux"):
        unavailable("a keeper needs Linux")
    script = "import os, sys; os.environ['WATCHDOG_PID'] = str(os.getpid()); os.execv(sys.argv[1], sys.argv[1:])"
    path = tmp_path / "socket"
    words = ["serve", "--keep", f"unix:{path}", "--", "cat"]
    wrapper = [sys.executable, "-c", script]
    with command.running(
        *words, environment=notified.environment, wrapper=wrapper, stderr=subprocess.DEVNULL
    ) as process:
        notified.wait_for(b"READY=1")
        assert notified.comes_within(PATIENCE)
        (supervisor,) = map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())
        os.kill(supervisor, signal.SIGKILL)
        notified.drain()
        assert notified.comes_within(PATIENCE)


def test_children_have_no_watchdog(serve: Serve, notified: Notified) -> None:
    server = serve("127.0.0.1:0", "--", "env", environment=notified.environment)
    assert not re.search(b"WATCHDOG|NOTIFY_SOCKET", server.exchange(b""))


# The journal.


def journal_lines(*words: str, enough: re.Pattern[str], claimed: bool = True) -> list[str]:
    """What a server writes to a journal until a line like this has come."""
    ours, its = socket.socketpair()
    found = os.fstat(its.fileno())
    environment = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}" if claimed else "1:1"}
    with ours, its, command.running("serve", *words, environment=environment, stderr=its):
        ours.settimeout(PATIENCE)
        text = ""
        while not enough.search(text):
            text += (came := ours.recv(65536)).decode()
            assert came, text
    return text.splitlines()


def test_lines_for_the_journal_have_priorities_and_no_times(tmp_path: Path) -> None:
    lines = journal_lines(f"unix:{tmp_path}/socket", "--", "cat", enough=re.compile("listening on .*\n"))
    assert f"<6>listening on unix:{tmp_path}/socket" in lines
    assert any(line.startswith("<4>") for line in lines), "that children run as the server's user is a warning"
    assert all(re.match(r"<[346]>\D", line) for line in lines), lines


def test_records_for_the_journal_have_priorities_too(tmp_path: Path) -> None:
    words = [f"unix:{tmp_path}/socket", "--log-format", "json", "--", "cat"]
    lines = journal_lines(*words, enough=re.compile('"listening".*\n'))
    assert all(re.match(r'<[346]>\{"time":"', line) for line in lines), lines


def test_where_descriptor_2_leads_elsewhere_lines_are_as_ever(tmp_path: Path) -> None:
    words = [f"unix:{tmp_path}/socket", "--", "cat"]
    lines = journal_lines(*words, enough=re.compile("listening on .*\n"), claimed=False)
    assert f"listening on unix:{tmp_path}/socket" in lines
    assert not any(line.startswith("<") for line in lines)


def test_a_start_that_fails_is_an_error_in_the_journal(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    path.mkdir()
    lines = journal_lines(f"unix:{path}", "--", "cat", enough=re.compile("tcppar: .*\n"))
    assert [line for line in lines if line.startswith("<3>tcppar: cannot listen on")]

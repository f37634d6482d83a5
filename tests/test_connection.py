"""The connection of a handler that is a plain function, over real sockets."""

import _socket
import array
import errno
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest

from tcppar.child.connection import Connection
from tcppar.child.errors import ConversationError, LimitExceeded, PeerGone, TimedOut
from tcppar.records import Endpoints, Family
from tests.support.conversation import LONG, MUCH, SHORT, Children, children, connected, receive_all, reset, takes

pytestmark = pytest.mark.timeout(60)

TCP = Endpoints(Family.IPV4, "192.0.2.1", 4000, "198.51.100.2", 80)
TCP6 = Endpoints(Family.IPV6, "2001:db8::1", 4000, "2001:db8::2", 80)
UNIX = Endpoints(Family.UNIX, "/run/client", 0, "/run/echo", 0)
IMPORTS = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


@pytest.fixture(params=["tcp", "unix"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    served, peer = connected(request.param)
    with served, peer:
        yield served, peer


@pytest.fixture(params=["bare", "socket"])
def conn(request: pytest.FixtureRequest, pair: tuple[socket.socket, socket.socket]) -> Iterator[Connection]:
    """A connection as a handler's process has it, with the bare socket that the socket module wraps, or with that."""
    served = pair[0]
    conn = connection(bare(served) if request.param == "bare" else served)
    yield conn
    conn.close()


def bare(sock: socket.socket) -> _socket.socket:
    return _socket.socket(sock.family, sock.type, sock.proto, sock.detach())


@pytest.fixture
def peer(pair: tuple[socket.socket, socket.socket]) -> socket.socket:
    return pair[1]


@pytest.fixture
def beside() -> Iterator[ThreadPoolExecutor]:
    """Runs what the peer does at the same time."""
    with ThreadPoolExecutor() as threads:
        yield threads


def connection(sock: _socket.socket, endpoints: Endpoints = TCP, timeout: float | None = None) -> Connection:
    return Connection(sock, id="abcd-7", service="echo", endpoints=endpoints, timeout=timeout)


class CountingSocket(socket.socket):
    """Notes the calls that handlers pay for."""

    calls: list[str]

    def recv(self, *arguments: Any) -> bytes:
        self.calls.append("recv")
        return super().recv(*arguments)

    def send(self, *arguments: Any) -> int:
        self.calls.append("send")
        return super().send(*arguments)


def counting(sock: socket.socket) -> CountingSocket:
    counted = CountingSocket(fileno=sock.detach())
    counted.calls = []
    return counted


# Reading.


def test_read_gives_what_is_there_and_nothing_at_the_end(conn: Connection, peer: socket.socket) -> None:
    peer.sendall(b"hello")
    assert conn.read() == b"hello"
    peer.close()
    assert conn.read() == conn.read() == b""


def test_read_gives_no_more_than_asked_for(conn: Connection, peer: socket.socket) -> None:
    peer.sendall(b"hello\nworld")
    assert conn.read(2) == b"he"
    assert conn.read_until() == b"llo\n"
    assert conn.read(3) == b"wor"
    assert conn.read() == b"ld"


def test_what_was_received_too_early_is_read_before_anything_else(conn: Connection, peer: socket.socket) -> None:
    peer.sendall(b"one\ntwo")
    assert conn.read_until() == b"one\n"
    peer.sendall(b"three")
    assert conn.read() == b"two"
    assert conn.read() == b"three"


def test_read_exactly_waits_for_all_of_it(conn: Connection, peer: socket.socket, beside: ThreadPoolExecutor) -> None:
    beside.submit(peer.sendall, MUCH)
    assert conn.read_exactly(len(MUCH) - 1) == MUCH[:-1]
    assert conn.read_exactly(0) == b""
    assert conn.read_exactly(1) == MUCH[-1:]


def test_read_until_takes_the_separator_too(conn: Connection, peer: socket.socket) -> None:
    peer.sendall(b"GET / HTTP/1.0\r\nHost: a\r\n\r\nbody")
    assert conn.read_until(b"\r\n\r\n") == b"GET / HTTP/1.0\r\nHost: a\r\n\r\n"
    assert conn.read() == b"body"


def test_read_until_finds_a_separator_that_comes_in_two_parts(
    conn: Connection, peer: socket.socket, beside: ThreadPoolExecutor
) -> None:
    peer.sendall(b"text\r")
    with pytest.raises(TimedOut):
        conn.read_until(b"\r\n", timeout=0)
    peer.sendall(b"\nmore")
    assert conn.read_until(b"\r\n") == b"text\r\n"


def test_read_until_at_the_clean_end_is_empty(conn: Connection, peer: socket.socket) -> None:
    peer.sendall(b"line\n")
    peer.close()
    assert conn.read_until() == b"line\n"
    assert conn.read_until() == conn.read_until() == b""


def test_a_separator_may_end_at_the_limit_and_not_behind_it(conn: Connection, peer: socket.socket) -> None:
    peer.sendall(b"1234\n12345\n")
    assert conn.read_until(limit=5) == b"1234\n"
    with pytest.raises(LimitExceeded, match="no separator within 5 bytes") as told:
        conn.read_until(limit=5)
    assert told.value.limit == 5
    assert conn.read_until(limit=6) == b"12345\n"


def test_lines_come_with_their_ends_and_the_last_one_as_it_is(conn: Connection, peer: socket.socket) -> None:
    peer.sendall(b"one\n\ntwo\r\nthree")
    peer.close()
    assert list(conn.lines()) == [b"one\n", b"\n", b"two\r\n", b"three"]
    assert list(conn.lines()) == []


def test_lines_of_a_silent_peer_are_none(conn: Connection, peer: socket.socket) -> None:
    peer.close()
    assert list(conn.lines()) == []


def test_lines_have_a_limit(conn: Connection, peer: socket.socket) -> None:
    peer.sendall(b"12\n1234\n")
    lines = conn.lines(limit=4)
    assert next(lines) == b"12\n"
    with pytest.raises(LimitExceeded):
        next(lines)
    assert conn.read() == b"1234\n"


def test_a_loop_over_lines_can_be_left_and_begun_again(conn: Connection, peer: socket.socket) -> None:
    peer.sendall(b"1\n2\n3\n")
    peer.close()
    for line in conn.lines():
        assert line == b"1\n"
        break
    assert list(conn.lines()) == [b"2\n", b"3\n"]


@pytest.mark.parametrize("size", [0, -1])
def test_to_read_nothing_is_a_mistake(conn: Connection, size: int) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        conn.read(size)


# Writing.


def test_write_writes_all_of_it(conn: Connection, peer: socket.socket, beside: ThreadPoolExecutor) -> None:
    received = beside.submit(receive_all, peer)
    conn.write(MUCH)
    conn.write(memoryview(MUCH).cast("I"), timeout=LONG)
    conn.close_writing()
    assert received.result() == MUCH * 2


@pytest.mark.parametrize("timeout", [None, LONG])
def test_any_buffer_can_be_written(conn: Connection, peer: socket.socket, timeout: float | None) -> None:
    wide = memoryview(array.array("I", [1, 2]))
    for data in (b"bytes", bytearray(b"array"), memoryview(b"view"), b"", wide):
        conn.write(data, timeout=timeout)
    conn.close_writing()
    assert receive_all(peer) == b"bytesarrayview" + wide.tobytes()


def test_several_buffers_go_out_as_one(pair: tuple[socket.socket, socket.socket]) -> None:
    with counting(pair[0]) as sock:
        conn = connection(sock)
        conn.write_all([b"head ", bytearray(b"and "), memoryview(b"body")])
        conn.write_all(piece for piece in (b"; ", b"more"))
        conn.write_all(b"; all")
        assert sock.calls == ["send"] * 3
        conn.close_writing()
        assert receive_all(pair[1]) == b"head and body; more; all"


@pytest.mark.parametrize("write", [Connection.write, Connection.write_all])
def test_text_cannot_be_written(conn: Connection, write: Callable[..., None]) -> None:
    with pytest.raises(TypeError, match="bytes-like object"):
        write(conn, "text")


def test_after_close_writing_the_peer_reads_the_end_and_can_still_answer(conn: Connection, peer: socket.socket) -> None:
    conn.write(b"bye")
    conn.close_writing()
    assert receive_all(peer) == b"bye"
    peer.sendall(b"goodbye")
    assert conn.read() == b"goodbye"
    with pytest.raises(PeerGone):
        conn.write(b"one more thing")


# What it costs.


def test_without_a_time_limit_a_read_and_a_write_are_one_call_each(pair: tuple[socket.socket, socket.socket]) -> None:
    with counting(pair[0]) as sock:
        conn = connection(sock)
        pair[1].sendall(b"hello\nyou\n")
        assert conn.read(6) == b"hello\n"
        assert conn.read_until() == b"you\n"
        conn.write(b"hello\n")
        assert sock.calls == ["recv", "recv", "send"]


def test_with_a_time_limit_it_is_waited_for_only_if_nothing_is_there(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    with counting(pair[0]) as sock:
        conn = connection(sock, timeout=LONG)
        pair[1].sendall(b"hello")
        monkeypatch.setattr("select.poll", None)
        assert conn.read() == b"hello"
        conn.write(b"hello")
        assert sock.calls == ["recv", "send"]


# The socket itself.


def test_the_socket_is_one_of_the_socket_module_whatever_the_connection_was_made_with(
    conn: Connection, peer: socket.socket
) -> None:
    descriptor = conn.fileno()
    assert isinstance(conn.socket, socket.socket)
    assert conn.socket is conn.socket
    assert conn.fileno() == conn.socket.fileno() == descriptor
    assert (conn.socket.family, conn.socket.type) == (peer.family, peer.type)
    conn.socket.sendall(b"past the connection")
    assert peer.recv(100) == b"past the connection"
    peer.sendall(b"into it")
    assert conn.read() == b"into it"


SENDS = """
import multiprocessing, socket
from tcppar.child.client_socket import ClientSocket
here, there = multiprocessing.Pipe()
ours, its = socket.socketpair()
here.send(ClientSocket(ours.family, ours.type, ours.proto, ours.detach()))
there.recv().sendall(b"from there")
print(its.recv(100))
"""


def test_the_socket_can_be_sent_to_another_process() -> None:
    """By multiprocessing, which knows how to send sockets by their class alone."""
    done = subprocess.run([sys.executable, "-c", SENDS], capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout, done.stderr) == ("b'from there'\n", "")


def test_the_socket_keeps_its_time_limit(pair: tuple[socket.socket, socket.socket]) -> None:
    served = bare(pair[0])
    served.settimeout(7.5)
    with connection(served) as conn:
        assert conn.socket.gettimeout() == 7.5


def test_the_socket_of_a_closed_connection_is_closed(conn: Connection) -> None:
    conn.close()
    assert conn.closed
    assert conn.socket.fileno() == -1
    with pytest.raises(OSError, match=r"\[Errno 9\]"):
        conn.read()


def test_another_socket_can_take_its_place(conn: Connection, peer: socket.socket) -> None:
    with closing(conn.socket) as former, closing(former.dup()) as other:
        conn.socket = other
        assert conn.fileno() == other.fileno()
        conn.write(b"by the other")
        assert peer.recv(100) == b"by the other"


def test_the_module_imports_nothing_that_spawners_would_carry_for_nothing() -> None:
    script = """
import sys, tcppar
before = set(sys.modules)
import tcppar.child.connection
print(*sorted(set(sys.modules) - before))
"""
    run = [sys.executable, "-S", "-c", script]
    done = subprocess.run(run, env=IMPORTS, capture_output=True, text=True, check=True)
    ours = [f"tcppar.child{name}" for name in ("", ".buffer", ".connection", ".conversation", ".errors", ".own_path")]
    assert set(done.stdout.split()) <= {"__future__", "_socket", "errno", "select", "time", "warnings", *ours}


# Time limits.


@pytest.mark.parametrize(
    "read",
    [
        lambda conn, **limit: conn.read(**limit),
        lambda conn, **limit: conn.read_exactly(3, **limit),
        lambda conn, **limit: conn.read_until(**limit),
        lambda conn, **limit: next(conn.lines(**limit)),
    ],
    ids=["read", "read_exactly", "read_until", "lines"],
)
def test_a_silent_peer_has_as_much_time_as_the_limit_says(conn: Connection, read: Callable[..., bytes]) -> None:
    with takes(SHORT), pytest.raises(TimedOut, match="the time limit has passed"):
        read(conn, timeout=SHORT)
    with takes(0), pytest.raises(TimedOut):
        read(conn, timeout=0)
    conn.timeout = SHORT
    with takes(SHORT), pytest.raises(TimedOut):
        read(conn)


def test_a_peer_that_takes_nothing_has_as_much_time_as_the_limit_says(conn: Connection, peer: socket.socket) -> None:
    with takes(SHORT), pytest.raises(TimedOut):
        conn.write(MUCH, timeout=SHORT)
    with takes(SHORT), pytest.raises(TimedOut):
        conn.write_all([MUCH], timeout=SHORT)
    with takes(0), pytest.raises(TimedOut):
        conn.write(MUCH, timeout=0)


def test_none_lifts_the_limit_of_the_connection(
    pair: tuple[socket.socket, socket.socket], beside: ThreadPoolExecutor
) -> None:
    conn = connection(pair[0], timeout=0)
    with pytest.raises(TimedOut):
        conn.read()
    beside.submit(pair[1].sendall, b"late")
    assert conn.read(timeout=None) == b"late"


def test_without_waiting_what_is_there_can_be_read_and_written(conn: Connection, peer: socket.socket) -> None:
    peer.sendall(b"a\nb\nccc")
    assert conn.read_until(timeout=0) == b"a\n"
    assert conn.read(2, timeout=0) == b"b\n"
    assert conn.read_exactly(3, timeout=0) == b"ccc"
    conn.write(b"done", timeout=0)
    assert peer.recv(10) == b"done"


def test_a_time_limit_loses_nothing(conn: Connection, peer: socket.socket) -> None:
    peer.sendall(b"half a ")
    for _ in range(2):
        with pytest.raises(TimedOut):
            conn.read_until(timeout=SHORT)
        with pytest.raises(TimedOut):
            conn.read_exactly(12, timeout=SHORT)
    peer.sendall(b"line\n")
    assert conn.read_until(timeout=LONG) == b"half a line\n"


def test_bytes_that_trickle_in_do_not_stretch_the_limit(
    conn: Connection, peer: socket.socket, beside: ThreadPoolExecutor
) -> None:
    over = threading.Event()

    def trickle() -> None:
        while not over.wait(SHORT / 10):
            peer.sendall(b".")

    beside.submit(trickle)
    try:
        with takes(SHORT * 4), pytest.raises(TimedOut):
            conn.read_until(timeout=SHORT * 4)
    finally:
        over.set()
    assert set(conn.read()) == {ord(".")}


def test_a_peer_that_never_lets_wait_has_no_more_time(
    conn: Connection, peer: socket.socket, beside: ThreadPoolExecutor
) -> None:
    size = 1 << 20
    sent = beside.submit(peer.sendall, bytes(size))
    data, expired = b"", 0
    while not data:
        try:
            data = conn.read_exactly(size, timeout=0)
        except TimedOut:
            expired += 1
    sent.result()
    assert data == bytes(size)
    # Each call takes what one attempt finds.
    assert expired >= size // 65536 - 1


# Peers that are gone.


def test_a_stream_that_ends_too_early_tells_what_came(conn: Connection, peer: socket.socket) -> None:
    peer.sendall(b"1234")
    peer.close()
    with pytest.raises(PeerGone, match="ended too early") as told:
        conn.read_exactly(5)
    assert told.value.partial == b"1234"
    with pytest.raises(PeerGone) as told:
        conn.read_exactly(5, timeout=LONG)
    assert told.value.partial == b""


def test_a_record_that_breaks_off_tells_what_came(conn: Connection, peer: socket.socket) -> None:
    peer.sendall(b"line\nhalf")
    peer.close()
    assert conn.read_until() == b"line\n"
    with pytest.raises(PeerGone) as told:
        conn.read_until()
    assert told.value.partial == b"half"
    assert conn.read_until() == b""


@pytest.mark.parametrize("timeout", [None, LONG])
def test_a_reset_is_no_end_of_the_stream(timeout: float | None) -> None:
    served, peer = connected("tcp")
    with served:
        conn = connection(served, timeout=timeout)
        peer.sendall(b"line\nhalf")
        lines = conn.lines()
        assert next(lines) == b"line\n"
        reset(peer)
        with pytest.raises(PeerGone, match="Connection reset by peer") as told:
            next(lines)
        assert told.value.partial == b"half"
        assert isinstance(told.value.__cause__, ConnectionResetError)


@pytest.mark.parametrize("timeout", [None, LONG])
def test_to_write_to_a_peer_that_is_gone_fails(conn: Connection, peer: socket.socket, timeout: float | None) -> None:
    peer.close()

    def write_until_it_fails() -> None:
        while True:  # the first one may still go out, and is answered by a reset
            conn.write(b"x" * 65536, timeout=timeout)

    with pytest.raises(PeerGone) as told:
        write_until_it_fails()
    assert told.value.partial == b""


def test_a_reset_ends_a_write_that_waits(beside: ThreadPoolExecutor) -> None:
    for timeout in (None, LONG):
        served, peer = connected("tcp")
        with served:
            written = beside.submit(connection(served, timeout=timeout).write, MUCH)
            assert peer.recv(1)
            reset(peer)
            with pytest.raises(PeerGone):
                written.result()


def test_a_peer_that_is_gone_does_not_end_the_process_by_a_signal() -> None:
    script = """
import signal, socket
from tcppar.child.connection import Connection
from tcppar.child.errors import PeerGone
from tcppar.records import Endpoints, Family
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
served, peer = socket.socketpair()
peer.close()
conn = Connection(served, id="1", service="s", endpoints=Endpoints(Family.UNIX, "", 0, "", 0))
for timeout in (None, 1):
    try:
        conn.write(b"x", timeout=timeout)
    except PeerGone as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], env=IMPORTS, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "the connection broke: Broken pipe\n" * 2)


def test_close_writing_fails_if_the_connection_is_broken() -> None:
    served, peer = connected("tcp")
    with served:
        conn = connection(served)
        reset(peer)
        with pytest.raises(PeerGone):
            conn.read()
        with pytest.raises(PeerGone):
            conn.close_writing()


def test_what_is_not_the_peers_fault_stays_what_it_is(conn: Connection) -> None:
    conn.close()
    for call in (conn.read, conn.read_until, lambda: conn.write(b"x"), conn.close_writing):
        with pytest.raises(OSError, match="Bad file descriptor") as told:
            call()
        assert told.value.errno == errno.EBADF


def test_one_name_stands_for_all_of_it() -> None:
    assert {PeerGone, TimedOut, LimitExceeded} == set(ConversationError.__subclasses__())


# Signals, and others who have the connection too.


@pytest.mark.parametrize("timeout", [None, LONG])
def test_reads_are_proof_against_children_that_end(
    conn: Connection, peer: socket.socket, beside: ThreadPoolExecutor, timeout: float | None
) -> None:
    lines = [b"%d\n" % number for number in range(100)]

    def send(ending: Children) -> None:
        for line in lines:
            peer.sendall(line[:1])
            ending.end_one()  # in the middle of a line, while the rest of it is waited for
            peer.sendall(line[1:])
        peer.shutdown(socket.SHUT_WR)

    with children(len(lines)) as ending:
        sent = beside.submit(send, ending)
        assert list(conn.lines(timeout=timeout)) == lines
        sent.result()
        assert ending.signals > 10


@pytest.mark.parametrize("timeout", [None, LONG])
def test_writes_are_proof_against_children_that_end(
    conn: Connection, peer: socket.socket, beside: ThreadPoolExecutor, timeout: float | None
) -> None:
    def receive(ending: Children) -> bytes:
        pieces = []
        while piece := peer.recv(1 << 16):
            pieces.append(piece)
            if ending.left:
                ending.end_one()  # while room is waited for
        return b"".join(pieces)

    with children(50) as ending:
        received = beside.submit(receive, ending)
        conn.write(MUCH, timeout=timeout)
        conn.close_writing()
        assert received.result() == MUCH
        assert ending.signals > 1


@pytest.mark.parametrize(
    "call", [lambda conn, **limit: conn.read(**limit), lambda conn, **limit: conn.write(MUCH, **limit)]
)
def test_time_limits_are_kept_while_children_end(
    conn: Connection, beside: ThreadPoolExecutor, call: Callable[..., object]
) -> None:
    over = threading.Event()
    with children(50) as ending:
        storm = beside.submit(ending.end_until, over)
        with takes(SHORT * 4), pytest.raises(TimedOut):
            call(conn, timeout=SHORT * 4)
        over.set()
        storm.result()
        assert ending.signals > 1


class Interrupted(Exception):
    """What a signal handler raises."""


def test_what_a_signal_handler_raises_is_raised_and_loses_nothing(
    conn: Connection, peer: socket.socket, beside: ThreadPoolExecutor
) -> None:
    def interrupt(number: int, frame: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        peer.sendall(b"half ")
        with pytest.raises(TimedOut):
            conn.read_until(timeout=SHORT)
        with pytest.raises(Interrupted):  # noqa: PT012 - it can come a moment before it is waited
            beside.submit(os.kill, os.getpid(), signal.SIGUSR1)
            conn.read_until()
    finally:
        signal.signal(signal.SIGUSR1, before)
    peer.sendall(b"line\n")
    assert conn.read_until() == b"half line\n"


def test_a_program_that_makes_the_connection_non_blocking_does_no_harm(
    conn: Connection, peer: socket.socket, beside: ThreadPoolExecutor
) -> None:
    program = [sys.executable, "-S", "-c", "import os; os.set_blocking(0, False)"]
    subprocess.run(program, stdin=conn.fileno(), check=True)
    assert not os.get_blocking(conn.fileno())
    beside.submit(peer.sendall, b"late\n")
    assert conn.read_until() == b"late\n"
    received = beside.submit(receive_all, peer)
    conn.write(MUCH)
    conn.close_writing()
    assert received.result() == MUCH


@pytest.mark.parametrize("timeout", [None, LONG])
def test_the_socket_stays_blocking(conn: Connection, peer: socket.socket, timeout: float | None) -> None:
    peer.sendall(b"x\n")
    assert conn.read_until(timeout=timeout) == b"x\n"
    conn.write(b"y", timeout=timeout)
    assert os.get_blocking(conn.fileno())
    assert conn.socket.gettimeout() is None


# Who talks to whom, and the end.


@pytest.mark.parametrize(
    ("endpoints", "peer_text", "remote", "local"),
    [
        (TCP, "192.0.2.1:4000", ("192.0.2.1", 4000), ("198.51.100.2", 80)),
        (TCP6, "[2001:db8::1]:4000", ("2001:db8::1", 4000), ("2001:db8::2", 80)),
        (UNIX, "unix:/run/client", "/run/client", "/run/echo"),
    ],
)
def test_a_connection_knows_both_its_ends(endpoints: Endpoints, peer_text: str, remote: object, local: object) -> None:
    with socket.socket() as sock:
        conn = connection(sock, endpoints)
        assert (conn.id, conn.service, conn.socket, conn.timeout) == ("abcd-7", "echo", sock, None)
        assert conn.peer == peer_text
        assert conn.remote_address == remote
        assert conn.local_address == local
        assert conn.fileno() == sock.fileno()
        assert repr(conn) == f"<Connection abcd-7 from {peer_text}>"


def test_what_is_logged_names_the_connection(conn: Connection, caplog: pytest.LogCaptureFixture) -> None:
    conn.log.warning("odd request: %s", "HELO")
    [record] = caplog.records
    assert (record.name, record.getMessage()) == ("tcppar.echo", "odd request: HELO")
    told = vars(record)
    assert (told["connection_id"], told["service"], told["peer"]) == ("abcd-7", "echo", "192.0.2.1:4000")
    assert conn.log is conn.log


def test_a_connection_is_closed_after_its_block(conn: Connection, peer: socket.socket) -> None:
    with conn as entered:
        assert entered is conn
        was_closed = conn.closed
    assert (was_closed, conn.closed) == (False, True)
    assert peer.recv(1) == b""
    conn.close()


def test_nothing_can_be_added_by_mistake(conn: Connection) -> None:
    with pytest.raises(AttributeError):
        conn.time_out = 5  # type: ignore[attr-defined]

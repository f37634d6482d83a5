"""The anomaly of TCPPAR: a child that ends disturbs its parent's timed CHECK or READ. Reproduced, survived, gone."""

import importlib.util
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tcppar.tcpx import (
    TCPOP_ACCEPT,
    TCPOP_CHECK,
    TCPOP_CLOSE,
    TCPOP_READ,
    TCPXFLG_ASYNC,
    TCPXFLG_KEEPLISTEN,
    reopen,
    tcpx,
)
from tests.conftest import HERE
from tests.support.a_shell import (
    SAMPLES,
    ParallelServer,
    converse,
    ending_children,
    free_port,
    receive,
    send,
)
from tests.support.server import PATIENCE, wait_until

CHILDREN = int(os.environ.get("TCPPAR_SOAK_CHILDREN", "10000")) // 2
"""How many end during CHECKs, and as many during READs, in each address family."""
FEW_CHILDREN = 300
LIMIT = 20
"""Milliseconds of a timed call that has nothing to wait for but its time limit."""
SHARE = 10
"""Bytes that come with the end of each child."""
NOT_OWNER, INTERRUPTED, WOULD_BLOCK, TIMED_OUT = -1, -4, -11, -110

Handled = list[int]


@pytest.fixture
def program(compiled: Callable[[Path], Path]) -> Path:
    return compiled(HERE / "support" / "end_at_once.c")


@pytest.fixture
def handled() -> Iterator[Handled]:
    """The program's own SIGCHLD handler; what it was called with. Without one the system would ignore the signal."""
    calls: Handled = []
    before = signal.signal(signal.SIGCHLD, lambda number, _: calls.append(number))
    yield calls
    signal.signal(signal.SIGCHLD, before)


@pytest.fixture(params=["127.0.0.1", "::1"], ids=["ipv4", "ipv6"])
def listener(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.create_server((request.param, 0), family=family) as listener:
        yield listener


@pytest.fixture
def pair(listener: socket.socket) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Our end of a connection, and the peer's."""
    peer = socket.create_connection(listener.getsockname()[:2], timeout=PATIENCE)
    ours, _ = listener.accept()
    with peer, ours:
        yield ours, peer


def check(listener: socket.socket, interrupted: str) -> int:
    """A CHECK of a listener to which nobody comes. If it says so, it must have used up its time."""
    began = time.monotonic()
    status = tcpx(TCPOP_CHECK, sockport=listener.fileno(), timer=LIMIT, interrupted=interrupted).status
    assert status != 0 or time.monotonic() - began >= LIMIT / 1000
    return status


# The runtime's wish come true


def test_in_retry_no_check_is_disturbed_by_a_child_that_ends(
    program: Path, listener: socket.socket, handled: Handled
) -> None:
    statuses: Counter[int] = Counter()
    with ending_children(program, CHILDREN) as over:
        while not over.is_set():
            statuses[check(listener, "retry")] += 1
    assert set(statuses) == {0}
    assert len(handled) > CHILDREN / 10  # the signals did come; those that come at the same time are one


def test_in_retry_no_read_is_disturbed_by_a_child_that_ends(
    program: Path, pair: tuple[socket.socket, socket.socket], handled: Handled
) -> None:
    ours, peer = pair
    wanted = 20 * SHARE
    with ending_children(program, CHILDREN, each=lambda: peer.sendall(b"." * SHARE)):
        statuses = Counter(
            tcpx(TCPOP_READ, sockport=ours.fileno(), flags=wanted, timer=PATIENCE * 1000).status
            for _ in range(CHILDREN * SHARE // wanted)
        )
    assert set(statuses) == {wanted}
    assert len(handled) > CHILDREN / 10


# The anomaly


@pytest.mark.parametrize(("interrupted", "status"), [("raw", NOT_OWNER), ("errno", INTERRUPTED)])
@pytest.mark.parametrize("own_handler", [True, False], ids=["own handler", "no handler"])
def test_a_child_that_ends_cuts_a_check_short(
    request: pytest.FixtureRequest,
    program: Path,
    listener: socket.socket,
    interrupted: str,
    status: int,
    own_handler: bool,
) -> None:
    handled: Handled = request.getfixturevalue("handled") if own_handler else []
    statuses: Counter[int] = Counter()
    with ending_children(program, FEW_CHILDREN) as over:
        while not over.is_set():
            statuses[check(listener, interrupted)] += 1
    assert set(statuses) <= {0, status}
    assert statuses[status]  # how many is for the scheduler to say: a child can end between two waits
    assert handled or not own_handler
    # Nothing is wrong with the listener.
    assert check(listener, interrupted) == 0
    with socket.create_connection(listener.getsockname()[:2]):
        assert check(listener, interrupted) == 1


@pytest.mark.parametrize(("interrupted", "status"), [("raw", NOT_OWNER), ("errno", INTERRUPTED)])
def test_a_child_that_ends_cuts_a_read_short(
    program: Path, pair: tuple[socket.socket, socket.socket], handled: Handled, interrupted: str, status: int
) -> None:
    ours, peer = pair
    statuses: Counter[int] = Counter()
    with ending_children(program, FEW_CHILDREN) as over:
        while not over.is_set():
            read = tcpx(TCPOP_READ, sockport=ours.fileno(), flags=1, timer=LIMIT, interrupted=interrupted)
            statuses[read.status] += 1
    assert set(statuses) <= {WOULD_BLOCK, status}
    assert statuses[status]
    peer.sendall(b"x")
    assert tcpx(TCPOP_READ, sockport=ours.fileno(), flags=1, timer=LIMIT, interrupted=interrupted).buffer == b"x"


@pytest.mark.parametrize("interrupted", ["retry", "errno", "raw"])
def test_no_byte_is_lost_with_a_read_that_is_cut_short(
    program: Path, pair: tuple[socket.socket, socket.socket], handled: Handled, interrupted: str
) -> None:
    ours, peer = pair
    sent = os.urandom(FEW_CHILDREN * SHARE)
    shares = iter(range(0, len(sent), SHARE))

    def send_share() -> None:
        begin = next(shares)
        peer.sendall(sent[begin : begin + SHARE])

    got = b""
    with ending_children(program, FEW_CHILDREN, each=send_share):
        while len(got) < len(sent):
            wanted = min(7 * SHARE, len(sent) - len(got))
            read = tcpx(
                TCPOP_READ,
                sockport=ours.fileno(),
                flags=wanted,
                timer=PATIENCE * 1000,
                interrupted=interrupted,
            )
            assert read.status == len(read.buffer) or (read.status < 0 and not read.buffer)
            got += read.buffer
    assert got == sent


# The sample server survives it


def leave(server: ParallelServer, client: socket.socket) -> None:
    """Let a client go, so that its child ends while the server waits in its CHECK."""
    server.wait_until_it_waits()
    children = len(server.children)
    client.close()
    wait_until(lambda: len(server.children) < children)


def clients_of(server: ParallelServer, count: int) -> list[socket.socket]:
    clients = [server.connect() for _ in range(count)]
    for client in clients:
        converse(client, exchanges=1)
    return clients


def parallel_server() -> ModuleType:
    """The sample as a module."""
    spec = importlib.util.spec_from_file_location("parallel_server", SAMPLES / "parallel_server.py")
    assert spec
    assert spec.loader
    sample = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sample)
    return sample


@pytest.mark.parametrize("reset", [(), ("--published-reset",)], ids=["lossless", "published"])
def test_the_server_passes_over_3_in_a_row_and_resets_at_the_fourth(tmp_path: Path, reset: tuple[str, ...]) -> None:
    with ParallelServer(tmp_path, "--interrupted", "raw", *reset) as server:
        staying, *leaving = clients_of(server, 11)
        for client in leaving[:3]:
            leave(server, client)
        (between,) = clients_of(server, 1)
        for client in leaving[3:6]:
            leave(server, client)
        assert server.resets == 0
        for client in leaving[6:]:
            leave(server, client)
        wait_until(lambda: server.resets == 1)
        for client in (staying, between, *clients_of(server, 2)):
            with client:
                send(client, "still there?")
                assert receive(client) == "2 STILL THERE?"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("is_published", [True, False], ids=["published", "lossless"])
def test_the_published_reset_loses_who_is_in_the_queue_and_reopen_nobody(host: str, is_published: bool) -> None:
    sample = parallel_server()
    port = free_port(host)
    listener = sample.open_listener(port, host)
    with socket.create_connection((host, port), timeout=PATIENCE) as waiting:
        listener = sample.open_again(listener, port, host) if is_published else reopen(listener).sockport
        with socket.create_connection((host, port), timeout=PATIENCE):
            flags = TCPXFLG_ASYNC | TCPXFLG_KEEPLISTEN
            accepted = [tcpx(TCPOP_ACCEPT, sockport=listener, flags=flags, timer=LIMIT) for _ in range(3)]
        for served in accepted:
            tcpx(TCPOP_CLOSE, sockport=served.sockport)
        tcpx(TCPOP_CLOSE, sockport=listener)
        assert [served.status for served in accepted] == (
            [0, TIMED_OUT, TIMED_OUT] if is_published else [0, 0, TIMED_OUT]
        )
        if is_published:
            with pytest.raises(ConnectionResetError):
                waiting.recv(1)


def test_in_retry_the_server_has_nothing_to_survive(tmp_path: Path) -> None:
    with ParallelServer(tmp_path) as server:
        for client in clients_of(server, 8):
            client.close()
        wait_until(lambda: not server.children)
        assert server.resets == 0

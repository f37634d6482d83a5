"""TCPX's ACCEPT, row by row, and the reset of its listener."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tcppar.tcpx import (
    TCPOP_ACCEPT,
    TCPOP_CHECK,
    TCPOP_CLOSE,
    TCPOP_READ,
    TCPXFLG_ASYNC,
    TCPXFLG_BLOCK,
    TCPXFLG_KEEPLISTEN,
    TCPXFLG_LISTEN,
    Result,
    reopen,
    tcpx,
)
from tests.support.server import PATIENCE, wait_until
from tests.support.tcpx import (
    EADDRINUSE,
    EBADF,
    EINVAL,
    ENOTSOCK,
    ETIMEDOUT,
    LIMIT,
    SHORT,
    Check,
    Table,
    World,
    is_open,
    new_world,
    port_of,
)

KEEP = TCPXFLG_ASYNC | TCPXFLG_KEEPLISTEN
GREETING = bytes(range(65, 65 + 40))

rows = Table()


@pytest.fixture(params=["127.0.0.1", "::1"], ids=["ipv4", "ipv6"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with new_world(World, request.param) as world:
        yield world


def accept_plainly(world: World, port: int, **more: Any) -> Future[Result]:
    """A plain ACCEPT, which another thread waits in."""
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(tcpx, TCPOP_ACCEPT, sockport=port, bind=world.host, timer=LIMIT, **more)
        connect_when_open(world, port)
    return waiting


def connect_when_open(world: World, port: int) -> socket.socket:
    """A client of a listener that another thread is about to open."""
    found: list[socket.socket] = []

    def connected() -> bool:
        sock = socket.socket(world.family)
        if sock.connect_ex((world.host, port)) == 0:
            found.append(world.own(sock))
        else:
            sock.close()
        return bool(found)

    wait_until(connected)
    return found[0]


def is_refused(world: World, port: int) -> bool:
    with socket.socket(world.family) as sock:
        return sock.connect_ex((world.host, port)) != 0


# Plain


@rows("OP", "plain: opens a listener on the port, accepts one client, closes the listener")
def _(world: World) -> None:
    port = world.free_port()
    result = accept_plainly(world, port).result()
    assert result.status == 0
    assert port_of(world.keep(result)) == port
    assert is_refused(world, port)


@rows("OC", "plain: at its time limit -110, and the port as it was; the next call goes on with the same listener")
def _(world: World) -> None:
    port = world.free_port()
    late = tcpx(TCPOP_ACCEPT, sockport=port, bind=world.host, timer=SHORT)
    assert (late.status, late.sockport) == (ETIMEDOUT, port)
    client = world.client(port)
    accepted = tcpx(TCPOP_ACCEPT, sockport=port, bind=world.host, timer=LIMIT)
    with socket.socket(fileno=os.dup(world.keep(accepted))) as connection:
        assert connection.getpeername() == client.getsockname()
    assert is_refused(world, port)


@rows("ASO", "plain: Control-C ends the wait")
def _(world: World) -> None:
    port = world.free_port()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a script's background has it ignored
    try:
        interrupter = subprocess.Popen(
            [sys.executable, "-c", "import os, signal; os.kill(os.getppid(), signal.SIGINT)"]
        )
        with pytest.raises(KeyboardInterrupt), interrupter:
            tcpx(TCPOP_ACCEPT, sockport=port, bind=world.host)
    finally:
        signal.signal(signal.SIGINT, before)
    assert interrupter.returncode == 0
    world.client(port)  # goes on listening for the next call
    world.keep(tcpx(TCPOP_ACCEPT, sockport=port, bind=world.host, timer=LIMIT))


# LISTEN


@rows("ASO", "LISTEN: returns at once, with the listening socket")
def _(world: World) -> None:
    port = world.free_port()
    listener = world.listen(port)
    assert port_of(listener) == port
    with socket.socket(fileno=os.dup(listener)) as duplicate:
        assert duplicate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        assert duplicate.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)


@rows("OC", "LISTEN: a port that is taken is -98, and -1 as the socket")
def _(world: World) -> None:
    port = port_of(world.listen())
    failed = tcpx(TCPOP_ACCEPT, sockport=port, flags=TCPXFLG_LISTEN, bind=world.host)
    assert (failed.status, failed.sockport) == (EADDRINUSE, -1)


@rows("OC", "LISTEN: a number that is no port is -22")
def _(world: World) -> None:
    for port in (-1, 65536):
        assert tcpx(TCPOP_ACCEPT, sockport=port, flags=TCPXFLG_LISTEN, bind=world.host).status == EINVAL


@rows("OC", "LISTEN: a queue for 5 clients, or so many as backlog says")
def _(world: World) -> None:
    for listener, room in ((world.listen(), 5), (world.listen(backlog=9), 9)):
        with socket.socket(fileno=os.dup(listener)) as duplicate:
            # tcpi_sacked of struct tcp_info, which for a listener is the limit of its queue
            info = duplicate.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
        assert int.from_bytes(info[28:32], sys.byteorder) == room


@rows("OC", "LISTEN: on all IPv4 addresses, if nothing else is said")
def _(world: World) -> None:
    listener = world.keep(tcpx(TCPOP_ACCEPT, sockport=0, flags=TCPXFLG_LISTEN))
    with socket.socket(fileno=os.dup(listener)) as duplicate:
        assert duplicate.getsockname()[0] == "0.0.0.0"


@rows("OC", "LISTEN: the descriptor is closed on exec")
def _(world: World) -> None:
    assert not os.get_inheritable(world.listen())


# ASYNC


@rows("ASO", "ASYNC+KEEPLISTEN: accepts on the listening socket, which stays open")
def _(world: World) -> None:
    listener = world.listen()
    for _ in range(2):
        client = world.client(port_of(listener))
        accepted = tcpx(TCPOP_ACCEPT, sockport=listener, flags=KEEP, timer=LIMIT)
        assert (accepted.status, accepted.hostname) == (0, world.host)
        with socket.socket(fileno=os.dup(world.keep(accepted))) as connection:
            assert connection.getpeername() == client.getsockname()


@rows("ASO", "ASYNC without KEEPLISTEN: closes the listening socket after the accept")
def _(world: World) -> None:
    listener = world.listen()
    port = port_of(listener)
    world.client(port)
    world.keep(tcpx(TCPOP_ACCEPT, sockport=listener, flags=TCPXFLG_ASYNC, timer=LIMIT))
    assert is_refused(world, port)


@rows("ASO", "ASYNC: waits if nobody is there")
def _(world: World) -> None:
    listener = world.listen()
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(tcpx, TCPOP_ACCEPT, sockport=listener, flags=KEEP)
        world.client(port_of(listener))
        world.keep(waiting.result())


@rows("OC", "ASYNC: at its time limit -110; the listener stays open and is returned")
def _(world: World) -> None:
    listener = world.listen()
    for flags in (KEEP, TCPXFLG_ASYNC):
        late = tcpx(TCPOP_ACCEPT, sockport=listener, flags=flags, timer=SHORT)
        assert (late.status, late.sockport) == (ETIMEDOUT, listener)
    assert not is_refused(world, port_of(listener))


@rows("OC", "ASYNC: on what does not listen -22, -9, -88, and the number as it was")
def _(world: World) -> None:
    connection, _ = world.pair()
    with open(os.devnull) as file:
        for sockport, status in ((connection, EINVAL), (-1, EBADF), (2**40, EBADF), (file.fileno(), ENOTSOCK)):
            failed = tcpx(TCPOP_ACCEPT, sockport=sockport, flags=KEEP, timer=SHORT)
            assert (failed.status, failed.sockport) == (status, sockport)


@rows("OC", "ASYNC: a listener that another process or socket object has opened is as good")
def _(world: World) -> None:
    server = world.server()
    world.client(server.getsockname()[1])
    world.keep(tcpx(TCPOP_ACCEPT, sockport=server.fileno(), flags=KEEP, timer=LIMIT))


@rows("ASO", "a client who comes between LISTEN and ASYNC waits in the queue")
def _(world: World) -> None:
    listener = world.listen()
    clients = [world.client(port_of(listener)) for _ in range(4)]
    for client in clients:
        client.sendall(b"x")
        accepted = world.keep(tcpx(TCPOP_ACCEPT, sockport=listener, flags=KEEP, timer=LIMIT))
        assert tcpx(TCPOP_READ, sockport=accepted, flags=1, timer=LIMIT).buffer == b"x"


# What is accepted


@rows("F2", "BLOCK is the mode of the connection")
def _(world: World) -> None:
    assert os.get_blocking(world.pair(TCPXFLG_BLOCK)[0])
    assert not os.get_blocking(world.pair()[0])


@rows("OC", "bits without a name are ignored")
def _(world: World) -> None:
    assert not os.get_blocking(world.pair(0x4002)[0])


@rows("OC", "the connection's descriptor is closed on exec")
def _(world: World) -> None:
    assert not os.get_inheritable(world.pair()[0])


@rows("M1", "the first 32 bytes of the buffer are sent to the client")
def _(world: World) -> None:
    for buffer in (GREETING, bytearray(GREETING), memoryview(GREETING), GREETING.decode()):
        listener = world.listen()
        client = world.client(port_of(listener))
        accepted = tcpx(TCPOP_ACCEPT, sockport=listener, flags=TCPXFLG_ASYNC, buffer=buffer, timer=LIMIT)
        assert accepted.status == 32
        tcpx(TCPOP_CLOSE, sockport=accepted.sockport)
        assert client.makefile("rb").read() == GREETING[:32]


@rows("ST1", "the status is the number of bytes of the greeting, which is not padded")
def _(world: World) -> None:
    listener = world.listen()
    client = world.client(port_of(listener))
    accepted = tcpx(TCPOP_ACCEPT, sockport=listener, flags=KEEP, buffer="hello", timer=LIMIT)
    assert accepted.status == 5
    tcpx(TCPOP_CLOSE, sockport=accepted.sockport)
    assert client.makefile("rb").read() == b"hello"


@rows("OC", "LISTEN greets nobody")
def _(world: World) -> None:
    listener = world.listen(buffer=GREETING)
    client = world.client(port_of(listener))
    tcpx(TCPOP_CLOSE, sockport=world.keep(tcpx(TCPOP_ACCEPT, sockport=listener, flags=KEEP, timer=LIMIT)))
    assert client.recv(1) == b""


# The reset


@rows("OC", "reopen: a new listening socket under the same number; who is in the queue is served first")
def _(world: World) -> None:
    listener = world.listen()
    port = port_of(listener)
    before = os.fstat(listener).st_ino
    early = [world.client(port) for _ in range(3)]
    assert reopen(listener) == Result(0, sockport=listener)
    assert os.fstat(listener).st_ino != before
    late = [world.client(port) for _ in range(3)]
    for client in early + late:
        assert tcpx(TCPOP_CHECK, sockport=listener, timer=LIMIT).status == 1
        accepted = world.keep(tcpx(TCPOP_ACCEPT, sockport=listener, flags=KEEP, timer=LIMIT))
        with socket.socket(fileno=os.dup(accepted)) as connection:
            assert connection.getpeername() == client.getsockname()


@rows("OC", "reopen: when the old queue is empty, the port belongs to the new listener alone")
def _(world: World) -> None:
    listener = world.listen()
    reopen(listener)

    def is_taken() -> bool:
        tcpx(TCPOP_CHECK, sockport=listener)
        with socket.socket(world.family) as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            try:
                other.bind((world.host, port_of(listener)))
            except OSError:
                return True
        return False

    wait_until(is_taken)


@rows("OC", "reopen: CLOSE closes the old listener too")
def _(world: World) -> None:
    listener = world.listen()
    port = port_of(listener)
    world.client(port)
    reopen(listener)
    assert tcpx(TCPOP_CLOSE, sockport=listener).status == 0
    assert is_refused(world, port)


@rows("OC", "reopen: not while clients may come who were turned away; their queue is made longer")
def _(world: World) -> None:
    listener = world.listen(backlog=0)
    before = os.fstat(listener).st_ino
    address = (world.host, port_of(listener))
    clients = [world.own(socket.socket(world.family)) for _ in range(4)]
    for client in clients:
        client.setblocking(False)
        client.connect_ex(address)
    assert reopen(listener).status == 0
    assert os.fstat(listener).st_ino == before
    for _ in clients:
        world.keep(tcpx(TCPOP_ACCEPT, sockport=listener, flags=KEEP, timer=LIMIT))


@rows("OC", "reopen: what does not listen is -22 or -9, and stays")
def _(world: World) -> None:
    connection, _ = world.pair()
    assert reopen(connection) == Result(EINVAL, sockport=connection)
    assert is_open(connection)
    assert reopen(-1).status == EBADF


@pytest.mark.parametrize("check", rows.params)
def test_row(check: Check, world: World) -> None:
    check(world)


# Resets are put off while clients may come whom a short queue has turned away.
@pytest.mark.parametrize(("backlog", "resets"), [(5, 0), (128, 5)])
def test_resets_under_load_lose_nobody(world: World, backlog: int, resets: int) -> None:
    listener = world.listen(backlog=backlog)
    address = (world.host, port_of(listener))
    sockets_seen = {os.fstat(listener).st_ino}
    over = threading.Event()

    def keep_coming() -> set[bytes]:
        answers = set()
        while not over.is_set():
            with socket.create_connection(address, PATIENCE) as client:
                client.sendall(b"x")
                answers.add(client.recv(1))
        return answers

    def serve_one() -> None:
        accepted = tcpx(TCPOP_ACCEPT, sockport=listener, flags=KEEP, buffer=b"y", timer=SHORT)
        if accepted.status >= 0:
            tcpx(TCPOP_READ, sockport=accepted.sockport, flags=1, timer=LIMIT)
            tcpx(TCPOP_CLOSE, sockport=accepted.sockport)

    with ThreadPoolExecutor(16) as threads:
        clients = [threads.submit(keep_coming) for _ in range(16)]
        try:
            count = 0
            while count < 800 or len(sockets_seen) <= resets:
                serve_one()
                if count % 7 == 0:
                    assert reopen(listener, backlog).status == 0
                    sockets_seen.add(os.fstat(listener).st_ino)
                count += 1
        finally:
            over.set()
        while not all(client.done() for client in clients):
            serve_one()
        assert [client.result() for client in clients] == [{b"y"}] * 16

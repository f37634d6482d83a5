"""TCPX's READ and WRITE, row by row."""

import os
import socket
import time
from collections.abc import Iterator

import pytest

from tcppar.tcpx import (
    TCPOP_READ,
    TCPOP_WRITE,
    TCPXFLG_BLOCK,
    Result,
    tcpx,
)
from tests.support.server import read_all, wait_until
from tests.support.tcpx import (
    EAGAIN,
    EBADF,
    ECONNRESET,
    EINVAL,
    ENOTSOCK,
    EPIPE,
    LIMIT,
    SHORT,
    Check,
    Table,
    World,
    fill,
    is_open,
    new_world,
    receive,
    reset,
)

MODES = (0, TCPXFLG_BLOCK)
MUCH = 4_000_000
"""More bytes than a connection holds."""

rows = Table()


@pytest.fixture(params=["127.0.0.1", "::1"], ids=["ipv4", "ipv6"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with new_world(World, request.param) as world:
        yield world


def comes(sockport: int, number: int) -> None:
    """Wait until so many bytes have come."""
    with socket.socket(fileno=os.dup(sockport)) as duplicate:
        wait_until(lambda: len(duplicate.recv(number, socket.MSG_PEEK | socket.MSG_DONTWAIT)) == number)


def send(peer: socket.socket, sockport: int, data: bytes) -> None:
    """Send from the other side; it has come when this returns."""
    peer.sendall(data)
    comes(sockport, len(data))


# READ


@rows("F2", "READ with the count 0: what is there, up to the buffer's size")
def _(world: World) -> None:
    for mode in MODES:
        sockport, peer = world.pair(mode)
        send(peer, sockport, b"hello")
        assert tcpx(TCPOP_READ, sockport=sockport) == Result(5, b"hello", sockport)
        send(peer, sockport, b"hello")
        assert tcpx(TCPOP_READ, sockport=sockport, size=3) == Result(3, b"hel", sockport)


@rows("F2", "READ non-blocking without a timer: the count is only an upper limit")
def _(world: World) -> None:
    sockport, peer = world.pair()
    send(peer, sockport, b"hello")
    assert tcpx(TCPOP_READ, sockport=sockport, flags=4).buffer == b"hell"
    assert tcpx(TCPOP_READ, sockport=sockport, flags=4).buffer == b"o"


@rows("ST1", "READ non-blocking, and nothing is there: -11, the socket as it was")
def _(world: World) -> None:
    sockport, _ = world.pair()
    for count in (0, 5):
        assert tcpx(TCPOP_READ, sockport=sockport, flags=count) == Result(EAGAIN, b"", sockport)


@rows("H855", "READ blocking without a timer: waits for the full count")
def _(world: World) -> None:
    sockport, peer = world.pair(TCPXFLG_BLOCK)
    send(peer, sockport, b"hel")
    world.later(lambda: peer.sendall(b"lo"))
    assert tcpx(TCPOP_READ, sockport=sockport, flags=5).buffer == b"hello"


@rows("F2", "READ with a timer: waits for the full count, in both modes")
def _(world: World) -> None:
    for mode in MODES:
        sockport, peer = world.pair(mode)
        send(peer, sockport, b"hel")

        def send_the_rest(peer: socket.socket = peer) -> None:
            peer.sendall(b"lo, world")

        world.later(send_the_rest)
        assert tcpx(TCPOP_READ, sockport=sockport, flags=5, timer=LIMIT).buffer == b"hello"


@rows("F2", "READ with a timer and the count 0: waits for the first bytes")
def _(world: World) -> None:
    for mode in MODES:
        sockport, peer = world.pair(mode)
        world.later(lambda peer=peer: peer.sendall(b"x"))  # type: ignore[misc]
        assert tcpx(TCPOP_READ, sockport=sockport, timer=LIMIT).buffer == b"x"


@rows("OC", "READ at its time limit: what has come")
def _(world: World) -> None:
    sockport, peer = world.pair()
    send(peer, sockport, b"hel")
    assert tcpx(TCPOP_READ, sockport=sockport, flags=5, timer=SHORT) == Result(3, b"hel", sockport)


@rows("OC", "READ at its time limit, and nothing has come: -11, also on a blocking socket")
def _(world: World) -> None:
    for mode in MODES:
        sockport, _ = world.pair(mode)
        began = time.monotonic()
        assert tcpx(TCPOP_READ, sockport=sockport, flags=5, timer=SHORT).status == EAGAIN
        assert time.monotonic() - began >= SHORT / 1000


@rows("EXT", "the timer is in milliseconds, and a negative one is 0")
def _(world: World) -> None:
    sockport, _ = world.pair()
    began = time.monotonic()
    assert tcpx(TCPOP_READ, sockport=sockport, timer=250.0).status == EAGAIN
    assert 0.25 <= time.monotonic() - began < 20
    assert tcpx(TCPOP_READ, sockport=sockport, timer=-1).status == EAGAIN


@rows("H758", "READ of a stream that has ended: 0")
def _(world: World) -> None:
    for mode in MODES:
        sockport, peer = world.pair(mode)
        peer.shutdown(socket.SHUT_WR)
        for timer in (0, LIMIT):
            if timer or mode:
                assert tcpx(TCPOP_READ, sockport=sockport, flags=5, timer=timer) == Result(0, b"", sockport)


@rows("OC", "READ of a stream that ends before the count: what has come, then 0")
def _(world: World) -> None:
    sockport, peer = world.pair()
    peer.sendall(b"hel")
    peer.shutdown(socket.SHUT_WR)
    assert tcpx(TCPOP_READ, sockport=sockport, flags=5, timer=LIMIT).buffer == b"hel"
    assert tcpx(TCPOP_READ, sockport=sockport, flags=5, timer=LIMIT).status == 0


@rows("ST1", "READ of a connection that was reset: -104")
def _(world: World) -> None:
    sockport, peer = world.pair()
    reset(peer)
    assert tcpx(TCPOP_READ, sockport=sockport, flags=1, timer=LIMIT) == Result(ECONNRESET, b"", sockport)


@rows("OC", "READ into a bytearray or a memoryview: its size counts, it is filled, its tail is left as it was")
def _(world: World) -> None:
    for wrap in (bytearray, lambda raw: memoryview(bytearray(raw))):
        sockport, peer = world.pair()
        buffer = wrap(b"........")
        send(peer, sockport, b"hello")
        assert tcpx(TCPOP_READ, buffer=buffer, sockport=sockport).buffer == b"hello"
        assert bytes(buffer) == b"hello..."
        send(peer, sockport, b"more than eight")
        assert tcpx(TCPOP_READ, buffer=buffer, sockport=sockport).status == 8
        assert bytes(buffer) == b"more tha"


@rows("CLI", "READ without a size takes up to 8 KB, or as much as the count says")
def _(world: World) -> None:
    sockport, peer = world.pair()
    send(peer, sockport, bytes(30_000))
    assert tcpx(TCPOP_READ, sockport=sockport).status == 8192
    assert tcpx(TCPOP_READ, sockport=sockport, flags=20_000).status == 20_000


@rows("F2", "READ with a count that is larger than the buffer, negative, or for no room at all: -22")
def _(world: World) -> None:
    sockport, _ = world.pair()
    for arguments in ({"flags": 9, "size": 8}, {"flags": 9, "buffer": bytearray(8)}, {"flags": -1}):
        assert tcpx(TCPOP_READ, sockport=sockport, **arguments).status == EINVAL
    assert tcpx(TCPOP_READ, sockport=sockport, buffer=bytearray()).status == EINVAL


# WRITE


@rows("F2", "WRITE with the count 0 sends the whole buffer, else so many bytes of it")
def _(world: World) -> None:
    for buffer in (b"hello", bytearray(b"hello"), memoryview(b"hello"), "hello"):
        for mode in MODES:
            sockport, peer = world.pair(mode)
            assert tcpx(TCPOP_WRITE, buffer=buffer, sockport=sockport) == Result(5, sockport=sockport)
            assert tcpx(TCPOP_WRITE, buffer=buffer, sockport=sockport, flags=4).status == 4
            assert receive(peer, 9) == b"hellohell"


@rows("F2", "WRITE with a count larger than the buffer: -22, and nothing is sent")
def _(world: World) -> None:
    sockport, _ = world.pair()
    assert tcpx(TCPOP_WRITE, buffer=b"hello", sockport=sockport, flags=6) == Result(EINVAL, sockport=sockport)
    assert tcpx(TCPOP_WRITE, buffer=b"hello", sockport=sockport, flags=-1).status == EINVAL


@rows("F2", "WRITE non-blocking, and there is no room: -11, the socket as it was")
def _(world: World) -> None:
    sockport, _ = world.pair()
    fill(sockport)
    assert tcpx(TCPOP_WRITE, buffer=b"x", sockport=sockport) == Result(EAGAIN, sockport=sockport)


@rows("OC", "WRITE non-blocking, and there is room for a part: sends that part")
def _(world: World) -> None:
    sockport, peer = world.pair()
    data = os.urandom(MUCH)
    sent = tcpx(TCPOP_WRITE, buffer=data, sockport=sockport).status
    assert 0 < sent < MUCH
    assert receive(peer, sent) == data[:sent]


@rows("F2", "WRITE blocking, or with a timer: waits until all is sent")
def _(world: World) -> None:
    data = os.urandom(MUCH)
    for mode, timer in ((TCPXFLG_BLOCK, 0), (0, LIMIT), (TCPXFLG_BLOCK, LIMIT)):
        sockport, peer = world.pair(mode)
        received: list[bytes] = []

        def receive_it(peer: socket.socket = peer, into: list[bytes] = received) -> None:
            into.append(receive(peer, MUCH))

        world.later(receive_it)
        assert tcpx(TCPOP_WRITE, buffer=data, sockport=sockport, timer=timer).status == MUCH
        wait_until(lambda received=received: bool(received))  # type: ignore[misc]
        assert received == [data]


@rows("OC", "WRITE at its time limit: as many bytes as were sent; none: -11")
def _(world: World) -> None:
    sockport, peer = world.pair(TCPXFLG_BLOCK)
    data = os.urandom(MUCH)
    sent = tcpx(TCPOP_WRITE, buffer=data, sockport=sockport, timer=SHORT).status
    assert 0 < sent < MUCH
    # The system may find more room for what was sent, and takes more then; but not without end.
    more = 0
    while (status := tcpx(TCPOP_WRITE, buffer=data, sockport=sockport, timer=SHORT).status) > 0:
        more += status
        assert more < 100 * MUCH
    assert status == EAGAIN
    assert receive(peer, sent) == data[:sent]


@rows("OC", "WRITE to a peer who has gone: -32, no signal, and the socket is closed: -1")
def _(world: World) -> None:
    sockport, peer = world.pair()
    reset(peer)
    assert tcpx(TCPOP_READ, sockport=sockport, flags=1, timer=LIMIT).status == ECONNRESET
    assert tcpx(TCPOP_WRITE, buffer=b"x", sockport=sockport) == Result(EPIPE, sockport=-1)
    assert not is_open(sockport)


@rows("OC", "WRITE that fails after a part was sent: the part; the next one finds out")
def _(world: World) -> None:
    sockport, peer = world.pair()
    client = peer

    def receive_and_go() -> None:
        receive(client, 1_000_000)
        reset(client)

    world.later(receive_and_go)
    result = tcpx(TCPOP_WRITE, buffer=bytes(4 * MUCH), sockport=sockport, timer=LIMIT)
    assert 0 < result.status < 4 * MUCH
    assert result.sockport == sockport
    assert tcpx(TCPOP_WRITE, buffer=b"x", sockport=sockport, timer=LIMIT).sockport == -1


@rows("OC", "WRITE of nothing: 0")
def _(world: World) -> None:
    sockport, _ = world.pair()
    assert tcpx(TCPOP_WRITE, sockport=sockport) == Result(0, sockport=sockport)


@rows("OC", "READ and WRITE of what is no connection: -9, -88, and nothing is closed")
def _(world: World) -> None:
    with open(os.devnull) as file:
        for opcode in (TCPOP_READ, TCPOP_WRITE):
            for sockport, status in ((-1, EBADF), (10**6, EBADF), (file.fileno(), ENOTSOCK)):
                assert tcpx(opcode, buffer=b"x", sockport=sockport) == Result(status, sockport=sockport)
        assert is_open(file.fileno())
    listener = world.listen()
    assert tcpx(TCPOP_WRITE, buffer=b"x", sockport=listener).sockport == listener
    assert is_open(listener)


@rows("OC", "a connection that another process has made is as good, in the mode that it has")
def _(world: World) -> None:
    server = world.server()
    client = world.client(server.getsockname()[1])
    connection = world.accept(server)
    for blocking in (True, False):
        os.set_blocking(connection.fileno(), blocking)
        assert tcpx(TCPOP_WRITE, buffer=b"x", sockport=connection.fileno()).status == 1
        assert client.recv(1) == b"x"
        assert tcpx(TCPOP_READ, sockport=connection.fileno(), timer=SHORT).status == EAGAIN
        assert os.get_blocking(connection.fileno()) == blocking


@rows("PF", "packets merge and split: a stream of bytes, none lost")
def _(world: World) -> None:
    sockport, peer = world.pair()
    data = os.urandom(200_000)

    def send_it() -> None:
        for begin in range(0, len(data), 999):
            peer.sendall(data[begin : begin + 999])
        peer.shutdown(socket.SHUT_WR)

    world.later(send_it)
    got = b""
    while (read := tcpx(TCPOP_READ, sockport=sockport, flags=777, timer=LIMIT)).status > 0:
        got += read.buffer
    assert (read.status, got) == (0, data)


@rows("F2", "a count of more than 1 MiB, on a connection without TLS, is a count")
def _(world: World) -> None:
    sockport, peer = world.pair()
    world.later(lambda: peer.sendall(bytes(1_500_000)))
    assert tcpx(TCPOP_READ, sockport=sockport, flags=1_500_000, timer=LIMIT).status == 1_500_000
    received: list[bytes] = []
    world.later(lambda: received.append(read_all(peer)))
    assert (
        tcpx(TCPOP_WRITE, buffer=bytes(1_200_000), sockport=sockport, flags=1_100_000, timer=LIMIT).status == 1_100_000
    )
    os.close(sockport)
    wait_until(lambda: bool(received))
    assert len(received[0]) == 1_100_000


@pytest.mark.parametrize("check", rows.params)
def test_row(check: Check, world: World) -> None:
    check(world)

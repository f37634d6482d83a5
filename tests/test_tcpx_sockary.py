"""TCPX with a sockary, row by row."""

import struct
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tcppar.tcpx import (
    TCPOP_ACCEPT,
    TCPOP_CHECK,
    TCPOP_CHKQTY,
    TCPOP_CLOSE,
    TCPOP_CONNECT,
    TCPOP_READ,
    TCPOP_WRITE,
    TCPXFLG_ASYNC,
    TCPXFLG_KEEPLISTEN,
    TCPXFLG_LISTEN,
    Result,
    SockArray,
    tcpx,
)
from tests.support.tcpx import (
    EBADF,
    ECONNREFUSED,
    EINVAL,
    EMFILE,
    ENOTSOCK,
    EPIPE,
    ETIMEDOUT,
    LIMIT,
    SHORT,
    Check,
    Table,
    World,
    is_open,
    new_world,
    port_of,
    reset,
)

KEEP = TCPXFLG_ASYNC | TCPXFLG_KEEPLISTEN
READY = 255
HOLE = 0xFFFFFF

rows = Table()


@pytest.fixture(params=["127.0.0.1", "::1"], ids=["ipv4", "ipv6"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with new_world(World, request.param) as world:
        yield world


def listening(world: World, array: SockArray) -> tuple[int, int]:
    """The index of a new listener, and its port."""
    result = tcpx(TCPOP_ACCEPT, sockport=0, flags=TCPXFLG_LISTEN, bind=world.host, sockary=array)
    assert result.status == 0
    world.keep(result._replace(sockport=array.socket(result.sockport)))
    return result.sockport, port_of(array.socket(result.sockport))


def check_all(array: SockArray, **more: Any) -> Result:
    return tcpx(TCPOP_CHECK, sockary=array, **more)


@rows("SA1", "up to 1025 entries of four bytes: socket in three, ready in one; the last is zero")
def _(world: World) -> None:
    array = SockArray()
    assert len(array) == 1024
    assert len(bytes(array)) == 4 * 1025
    assert not any(bytes(array))
    sockport, peer = world.pair()
    peer.sendall(b"x")
    array.add(sockport)
    check_all(array, timer=LIMIT)
    first, *others = struct.iter_unpack("<I", bytes(array))
    assert first[0] == sockport | READY << 24
    assert set(others) == {(0,)}


@rows("OC", "ACCEPT with LISTEN takes a port, and gives the first free index; so does a plain one, and CONNECT")
def _(world: World) -> None:
    array = SockArray(4)
    index, port = listening(world, array)
    assert index == 1
    connected = tcpx(TCPOP_CONNECT, sockport=port, hostname=world.host, timer=LIMIT, sockary=array)
    assert (connected.status, connected.sockport) == (0, 2)
    plain = world.free_port()
    late = tcpx(TCPOP_ACCEPT, sockport=plain, bind=world.host, timer=SHORT, sockary=array)
    assert (late.status, late.sockport) == (ETIMEDOUT, plain)
    world.client(plain)
    accepted = tcpx(TCPOP_ACCEPT, sockport=plain, bind=world.host, timer=LIMIT, sockary=array)
    assert (accepted.status, accepted.sockport) == (0, 3)
    assert list(array) == [1, 2, 3]
    assert tcpx(TCPOP_CLOSE, sockary=array).status == 0


@rows("SA1", "all other calls take the index, and give it back")
def _(world: World) -> None:
    array = SockArray(4)
    index, port = listening(world, array)
    peer = world.client(port)
    accepted = tcpx(TCPOP_ACCEPT, sockary=array, sockidx=index, flags=KEEP, timer=LIMIT)
    assert (accepted.status, accepted.sockport, accepted.hostname) == (0, 2, world.host)
    peer.sendall(b"hello")
    assert tcpx(TCPOP_CHECK, sockary=array, sockidx=2, timer=LIMIT) == Result(1, sockport=2)
    assert [array.ready(1), array.ready(2)] == [0, READY]
    assert tcpx(TCPOP_CHKQTY, sockary=array, sockidx=2) == Result(5, sockport=2)
    assert tcpx(TCPOP_READ, sockary=array, sockidx=2) == Result(5, b"hello", sockport=2)
    assert tcpx(TCPOP_WRITE, buffer=b"x", sockary=array, sockidx=2) == Result(1, sockport=2)
    assert peer.recv(9) == b"x"
    assert tcpx(TCPOP_CHECK, sockary=array, sockidx=2) == Result(0, sockport=2)
    assert array.ready(2) == 0
    tcpx(TCPOP_CLOSE, sockary=array)


@rows("OC", "ACCEPT with ASYNC and without KEEPLISTEN: the listener's place is free for the connection")
def _(world: World) -> None:
    array = SockArray(1)
    index, port = listening(world, array)
    world.client(port)
    accepted = tcpx(TCPOP_ACCEPT, sockary=array, sockidx=index, flags=TCPXFLG_ASYNC, timer=LIMIT)
    assert (accepted.status, accepted.sockport, list(array)) == (0, 1, [1])
    tcpx(TCPOP_CLOSE, sockary=array)


@rows("SA1", "CHECK of all: how many are ready, one of them as the index, and 255 in each")
def _(world: World) -> None:
    array = SockArray(8)
    pairs = [world.pair() for _ in range(5)]
    indexes = [array.add(sockport) for sockport, _ in pairs]
    for number in (1, 3):
        pairs[number][1].sendall(b"x")
        assert tcpx(TCPOP_CHECK, sockport=pairs[number][0], timer=LIMIT).status == 1
    result = check_all(array)
    assert result.status == 2
    assert result.sockport in (2, 4)
    assert [array.ready(index) for index in indexes] == [0, READY, 0, READY, 0]
    tcpx(TCPOP_READ, sockary=array, sockidx=2)
    assert check_all(array) == Result(1, sockport=4)
    assert [array.ready(index) for index in indexes] == [0, 0, 0, READY, 0]


@rows("SA1", "CHECK of all: round robin, so that low indexes are not favoured")
def _(world: World) -> None:
    array = SockArray(8)
    pairs = [world.pair() for _ in range(4)]
    for sockport, peer in pairs:
        array.add(sockport)
        peer.sendall(b"x")
        assert tcpx(TCPOP_CHECK, sockport=sockport, timer=LIMIT).status == 1
    chosen = [check_all(array).sockport for _ in range(8)]
    assert chosen == [1, 2, 3, 4, 1, 2, 3, 4]
    tcpx(TCPOP_READ, sockary=array, sockidx=2)
    assert Counter(check_all(array).sockport for _ in range(6)) == {1: 2, 3: 2, 4: 2}


@rows("SA1", "CHECK of all waits within the timer for any of them")
def _(world: World) -> None:
    array = SockArray(8)
    index, port = listening(world, array)
    pairs = [world.pair() for _ in range(3)]
    for sockport, _ in pairs:
        array.add(sockport)
    world.later(lambda: pairs[2][1].sendall(b"x"))
    assert check_all(array, timer=LIMIT) == Result(1, sockport=4)
    tcpx(TCPOP_READ, sockary=array, sockidx=4)
    world.later(lambda: world.client(port))
    assert check_all(array, timer=LIMIT) == Result(1, sockport=index)


@rows("OC", "CHECK of all, and nothing is ready: 0, and index 0, after the whole time; of no sockets too")
def _(world: World) -> None:
    array = SockArray(8)
    for sockports in ([], [world.pair()[0]]):
        for sockport in sockports:
            array.add(sockport)
        began = time.monotonic()
        assert check_all(array, timer=SHORT) == Result(0, sockport=0)
        assert time.monotonic() - began >= SHORT / 1000
        assert check_all(array) == Result(0, sockport=0)


@rows("OC", "CHECK of all: a connection that is closed, reset or no socket any more is ready; its own call tells why")
def _(world: World) -> None:
    array = SockArray(8)
    closed, broken = world.pair(), world.pair()
    for sockport, _ in (closed, broken):
        array.add(sockport)
    closed[1].close()
    assert check_all(array, timer=LIMIT).sockport == 1
    assert tcpx(TCPOP_READ, sockary=array, sockidx=1).status == 0
    reset(broken[1])
    while check_all(array, timer=LIMIT).status != 2:
        pass
    assert tcpx(TCPOP_CHECK, sockary=array, sockidx=1, timer=LIMIT) == Result(EPIPE, sockport=1)
    with open("/dev/null") as file:
        assert tcpx(TCPOP_CHECK, sockary=array, sockidx=array.add(file.fileno())).status == ENOTSOCK


@rows("SA1", "CLOSE of all")
def _(world: World) -> None:
    array = SockArray(8)
    sockports = [world.pair()[0] for _ in range(3)]
    for sockport in sockports:
        array.add(sockport)
    tcpx(TCPOP_CLOSE, sockary=array, sockidx=2)
    assert tcpx(TCPOP_CLOSE, sockary=array) == Result(0, sockport=0)
    assert not any(map(is_open, sockports))
    assert list(array) == []


@rows("OC", "CLOSE leaves a hole, which is no end mark, and which the next socket gets")
def _(world: World) -> None:
    array = SockArray(8)
    for _ in range(3):
        array.add(world.pair()[0])
    assert tcpx(TCPOP_CLOSE, sockary=array, sockidx=2) == Result(0, sockport=2)
    assert [entry for (entry,) in struct.iter_unpack("<I", bytes(array))][1] == HOLE
    assert list(array) == [1, 3]
    assert tcpx(TCPOP_CLOSE, sockary=array, sockidx=2).status == -1
    assert array.add(world.pair()[0]) == 2


@rows("OC", "WRITE that closes its socket leaves a hole")
def _(world: World) -> None:
    array = SockArray(8)
    sockport, peer = world.pair()
    array.add(sockport)
    reset(peer)
    tcpx(TCPOP_CHECK, sockport=sockport, timer=LIMIT)
    assert tcpx(TCPOP_WRITE, buffer=b"x", sockary=array, sockidx=1) == Result(EPIPE, sockport=1)
    assert list(array) == []


@rows("OC", "an array that is full: -24, and nothing has happened")
def _(world: World) -> None:
    array = SockArray(1)
    index, port = listening(world, array)
    world.client(port)
    for opcode, arguments in (
        (TCPOP_ACCEPT, {"sockport": 0, "flags": TCPXFLG_LISTEN}),
        (TCPOP_CONNECT, {"sockport": port, "hostname": world.host}),
        (TCPOP_ACCEPT, {"sockidx": index, "flags": KEEP}),
    ):
        assert tcpx(opcode, sockary=array, timer=LIMIT, **arguments).status == EMFILE
    assert tcpx(TCPOP_CHECK, sockary=array, sockidx=index, timer=LIMIT).status == 1  # who waits, waits on
    with pytest.raises(OSError, match="Too many open files"):
        array.add(3)


@rows("OC", "a connection that fails takes no place")
def _(world: World) -> None:
    array = SockArray(1)
    refused = tcpx(TCPOP_CONNECT, sockport=world.free_port(), hostname=world.host, timer=LIMIT, sockary=array)
    assert (refused.status, list(array)) == (ECONNREFUSED, [])


@rows("OC", "an index that the array has not: -22; one without a socket: -9, as 0 is where not all are meant")
def _(world: World) -> None:
    array = SockArray(4)
    for index, status in ((5, EINVAL), (-1, EINVAL), (2, EBADF), (0, EBADF)):
        assert tcpx(TCPOP_READ, sockary=array, sockidx=index) == Result(status, sockport=index)
        assert tcpx(TCPOP_ACCEPT, sockary=array, sockidx=index, flags=KEEP).status == status


def test_oc_an_array_has_room_for_1_to_1024() -> None:
    for size in (0, 1025):
        with pytest.raises(ValueError, match="1 to 1024"):
            SockArray(size)
    with pytest.raises(IndexError):
        SockArray(4).socket(5)


def test_a_server_of_one_process_by_round_robin(world: World) -> None:
    array = SockArray(64)
    index, port = listening(world, array)
    clients = [world.client(port) for _ in range(5)]
    for number, client in enumerate(clients):
        client.sendall(b"%d" % number)
    answered = 0
    while answered < len(clients):
        chosen = check_all(array, timer=LIMIT).sockport
        if chosen == index:
            assert tcpx(TCPOP_ACCEPT, sockary=array, sockidx=index, flags=KEEP, timer=LIMIT).status == 0
        else:
            read = tcpx(TCPOP_READ, sockary=array, sockidx=chosen)
            assert tcpx(TCPOP_WRITE, buffer=read.buffer, sockary=array, sockidx=chosen).status == 1
            answered += 1
    assert [client.recv(9) for client in clients] == [b"%d" % number for number in range(5)]
    tcpx(TCPOP_CLOSE, sockary=array)


@pytest.mark.parametrize("check", rows.params)
def test_row(check: Check, world: World) -> None:
    check(world)

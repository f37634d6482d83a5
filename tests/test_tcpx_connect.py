"""TCPX's CONNECT, and opcode 10, row by row."""

import os
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tcppar.tcpx import (
    TCPOP_CHECK,
    TCPOP_CONNECT,
    TCPOP_CONNECT_GREETING,
    TCPOP_ERRMSG,
    TCPOP_READ,
    TCPOP_WRITE,
    TCPXFLG_ASYNC,
    TCPXFLG_BLOCK,
    Result,
    connecting,
    tcpx,
)
from tests.support.tcpx import (
    EAGAIN,
    ECONNREFUSED,
    EHOSTUNREACH,
    EINVAL,
    ENOTCONN,
    ETIMEDOUT,
    LIMIT,
    SHORT,
    Check,
    Table,
    World,
    is_open,
    new_world,
)

rows = Table()


@pytest.fixture(params=["127.0.0.1", "::1"], ids=["ipv4", "ipv6"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with new_world(World, request.param) as world:
        yield world


def connect(world: World, port: int, flags: int = 0, **more: Any) -> Result:
    return tcpx(TCPOP_CONNECT, sockport=port, hostname=world.host, flags=flags, **more)


def port_of(server: socket.socket) -> int:
    return int(server.getsockname()[1])


def let_in(server: socket.socket) -> None:
    """Accept all whom the system has let into the queue, so that there is room for those who still try."""
    server.setblocking(False)
    while True:
        try:
            server.accept()[0].close()
        except BlockingIOError:
            return


@rows("CLI", "CONNECT to a port of a host: 0, and the socket")
def _(world: World) -> None:
    server = world.server()
    connected = connect(world, port_of(server), timer=LIMIT)
    assert connected == Result(0, sockport=world.keep(connected), hostname=world.host)
    peer = world.accept(server)
    assert tcpx(TCPOP_WRITE, buffer=b"x", sockport=connected.sockport).status == 1
    assert peer.recv(1) == b"x"


@rows("CLI", "CONNECT by name, without a timer")
def _(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        world.keep(tcpx(TCPOP_CONNECT, sockport=port_of(server), hostname="localhost"))


@rows("F2", "BLOCK is the mode of the connection")
def _(world: World) -> None:
    server = world.server()
    assert os.get_blocking(world.keep(connect(world, port_of(server), TCPXFLG_BLOCK)))
    assert not os.get_blocking(world.keep(connect(world, port_of(server))))


@rows("OC", "the connection's descriptor is closed on exec")
def _(world: World) -> None:
    assert not os.get_inheritable(world.keep(connect(world, port_of(world.server()))))


@rows("ST1", "CONNECT where nobody listens: -111, and -1 as the socket; nothing stays open")
def _(world: World) -> None:
    before = os.listdir("/proc/self/fd")
    for flags in (0, TCPXFLG_ASYNC):
        assert connect(world, world.free_port(), flags, timer=LIMIT) == Result(ECONNREFUSED, hostname=world.host)
    assert os.listdir("/proc/self/fd") == before


@rows("OP", "CONNECT gives the attempt up when the timer is over (OC: -110, and -1 as the socket)")
def _(world: World) -> None:
    port, _ = world.silent_server()
    before = os.listdir("/proc/self/fd")
    assert connect(world, port, timer=SHORT) == Result(ETIMEDOUT, hostname=world.host)
    assert os.listdir("/proc/self/fd") == before


@rows("OC", "CONNECT without a name, or to a number that is no port: -22")
def _(world: World) -> None:
    for port in (0, -1, 65536):
        assert connect(world, port).status == EINVAL
    assert tcpx(TCPOP_CONNECT, sockport=80).status == EINVAL


@rows("OC", "CONNECT to a name that is not found, or is none: -113, and why by ERRMSG")
def _(world: World) -> None:
    for name in ("no-such-host.invalid", "a" * 70, "a\0b", "-"):
        assert tcpx(TCPOP_CONNECT, sockport=80, hostname=name) == Result(EHOSTUNREACH, hostname=name)
        text = tcpx(TCPOP_ERRMSG, status=EHOSTUNREACH).buffer.decode()
        assert "name" in text.lower()


# ASYNC


@rows("AC", "ASYNC: 1 if it is connected already")
def _(world: World) -> None:
    connected = connect(world, port_of(world.server()), TCPXFLG_ASYNC, timer=LIMIT)
    assert connected.status == 1
    world.keep(connected)


@rows("AC", "ASYNC: 0 and the half-open socket while it is pending; then CHECK: 0, and 1 when it is connected")
def _(world: World) -> None:
    port, server = world.silent_server()
    half_open = connect(world, port, TCPXFLG_ASYNC)
    assert half_open.status == 0
    sockport = world.keep(half_open)
    assert tcpx(TCPOP_CHECK, sockport=sockport).status == 0
    assert tcpx(TCPOP_CHECK, sockport=sockport, timer=SHORT) == Result(0, sockport=sockport)
    let_in(server)
    assert tcpx(TCPOP_CHECK, sockport=sockport, timer=LIMIT).status == 1
    assert tcpx(TCPOP_CHECK, sockport=sockport).status == 0  # connected, and nothing to read
    assert tcpx(TCPOP_WRITE, buffer=b"x", sockport=sockport).status == 1


@rows("AC", "ASYNC with a timer waits so long, and does not give up then")
def _(world: World) -> None:
    port, server = world.silent_server()
    began = time.monotonic()
    half_open = connect(world, port, TCPXFLG_ASYNC, timer=SHORT)
    assert time.monotonic() - began >= SHORT / 1000
    assert half_open.status == 0
    let_in(server)
    assert tcpx(TCPOP_CHECK, sockport=world.keep(half_open), timer=LIMIT).status == 1


@rows("AC", "ASYNC: CHECK tells why an attempt has failed, and goes on telling it")
def _(world: World) -> None:
    port, server = world.silent_server()
    sockport = world.keep(connect(world, port, TCPXFLG_ASYNC))
    server.close()
    for _ in range(2):
        assert tcpx(TCPOP_CHECK, sockport=sockport, timer=LIMIT) == Result(ECONNREFUSED, sockport=sockport)
    assert is_open(sockport)


@rows("OC", "READ and WRITE on a half-open socket finish the connection first, as far as their time goes")
def _(world: World) -> None:
    port, server = world.silent_server()
    sockport = world.keep(connect(world, port, TCPXFLG_ASYNC))
    assert tcpx(TCPOP_WRITE, buffer=b"x", sockport=sockport).status == EAGAIN
    assert tcpx(TCPOP_READ, sockport=sockport, flags=1, timer=SHORT).status == EAGAIN
    let_in(server)
    assert tcpx(TCPOP_WRITE, buffer=b"x", sockport=sockport, timer=LIMIT).status == 1


@rows("OC", "CHECK of a half-open socket that another process has begun to connect; of one that nobody has: -107")
def _(world: World) -> None:
    port, server = world.silent_server()
    with socket.socket(world.family) as other:
        assert tcpx(TCPOP_CHECK, sockport=other.fileno(), timer=LIMIT).status == ENOTCONN
        other.setblocking(False)
        other.connect_ex((world.host, port))
        assert tcpx(TCPOP_CHECK, sockport=other.fileno(), timer=SHORT).status == 0
        let_in(server)
        assert tcpx(TCPOP_CHECK, sockport=other.fileno(), timer=LIMIT).status == 1


@pytest.mark.parametrize("flags", [0, TCPXFLG_ASYNC])
def test_oc_every_address_of_a_name_is_tried_under_one_number(
    world: World, monkeypatch: pytest.MonkeyPatch, flags: int
) -> None:
    server = world.server()
    there = (world.family, socket.SOCK_STREAM, 0, "", server.getsockname())
    refused = (world.family, socket.SOCK_STREAM, 0, "", (world.host, world.free_port()))
    impossible = (socket.AF_UNIX, socket.SOCK_DGRAM, 0, "", "/no/such/file")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [impossible, refused, refused, there])
    connected = connect(world, 1, flags, timer=LIMIT)
    assert connected.status == (1 if flags else 0)
    sockport = world.keep(connected)
    assert not os.get_inheritable(sockport)
    tcpx(TCPOP_WRITE, buffer=b"x", sockport=sockport)
    assert world.accept(server).recv(1) == b"x"


# Opcode 10


@rows("H855", "opcode 10 connects and reads the server's greeting; OC: the status is its length")
def _(world: World) -> None:
    server = world.server()
    world.later(lambda: world.accept(server).sendall(b"220 hello"))
    greeted = tcpx(TCPOP_CONNECT_GREETING, sockport=port_of(server), hostname=world.host, timer=LIMIT)
    assert (greeted.status, greeted.buffer) == (9, b"220 hello")
    assert is_open(world.keep(greeted))


@rows("OC", "opcode 10, and no greeting comes within the timer: -11, and the socket; no connection: as CONNECT")
def _(world: World) -> None:
    server = world.server()
    silent = tcpx(TCPOP_CONNECT_GREETING, sockport=port_of(server), hostname=world.host, timer=SHORT)
    assert silent.status == EAGAIN
    assert is_open(world.keep(silent._replace(status=0)))
    refused = tcpx(TCPOP_CONNECT_GREETING, sockport=world.free_port(), hostname=world.host, timer=LIMIT)
    assert refused == Result(ECONNREFUSED, hostname=world.host)


def test_oc_opcode_10_has_a_limit_of_its_own(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert connecting._GREETING_LIMIT == 5000
    monkeypatch.setattr(connecting, "_GREETING_LIMIT", SHORT)
    silent = tcpx(TCPOP_CONNECT_GREETING, sockport=port_of(world.server()), hostname=world.host)
    assert silent.status == EAGAIN
    world.keep(silent._replace(status=0))


@pytest.mark.parametrize("check", rows.params)
def test_row(check: Check, world: World) -> None:
    check(world)

"""The rest of TCPX, row by row: CHECK, CHKQTY, SHUTDOWN, CLOSE, ERRMSG, and what is common to all calls."""

import errno
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

import tcppar.tcpx
from tcppar.tcpx import (
    TCPOP_ACCEPT,
    TCPOP_CHECK,
    TCPOP_CHKQTY,
    TCPOP_CLOSE,
    TCPOP_CONNECT,
    TCPOP_ERRMSG,
    TCPOP_READ,
    TCPOP_SHUTDOWN,
    TCPOP_STARTTLS,
    TCPOP_WRITE,
    TCPXFLG_ASYNC,
    TCPXFLG_BLOCK,
    TCPXFLG_KEEPLISTEN,
    TCPXFLG_LISTEN,
    TCPXFLG_SHUTRD,
    TCPXFLG_SHUTWR,
    TCPXFLG_STARTTLS,
    TCPXFLG_TLS,
    Result,
    tcpx,
)
from tests.support.server import wait_until
from tests.support.tcpx import (
    EBADF,
    ECONNREFUSED,
    ECONNRESET,
    EINVAL,
    ENOTCONN,
    ENOTSOCK,
    EPIPE,
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

rows = Table()


@pytest.fixture(params=["127.0.0.1", "::1"], ids=["ipv4", "ipv6"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with new_world(World, request.param) as world:
        yield world


def check(sockport: int, **more: Any) -> int:
    result = tcpx(TCPOP_CHECK, sockport=sockport, **more)
    assert result == Result(result.status, sockport=sockport)
    return result.status


def quantity(sockport: int, **more: Any) -> int:
    result = tcpx(TCPOP_CHKQTY, sockport=sockport, **more)
    assert result == Result(result.status, sockport=sockport)
    return result.status


# CHECK


@rows("OP", "CHECK of a connection: 0 without data, 1 with; the data stay there")
def _(world: World) -> None:
    for mode in (0, TCPXFLG_BLOCK):
        sockport, peer = world.pair(mode)
        assert check(sockport) == 0
        peer.sendall(b"hello")
        assert check(sockport, timer=LIMIT) == 1
        assert check(sockport) == 1
        assert tcpx(TCPOP_READ, sockport=sockport, flags=5, timer=LIMIT).buffer == b"hello"
        assert check(sockport) == 0


@rows("OP", "CHECK of a listener: 1 when a client waits")
def _(world: World) -> None:
    listener = world.listen()
    assert check(listener) == 0
    assert check(listener, timer=SHORT) == 0
    world.client(port_of(listener))
    assert check(listener, timer=LIMIT) == 1


@rows("OP", "CHECK waits as long as the timer says; OC: with 0 it looks once")
def _(world: World) -> None:
    sockport, peer = world.pair()
    began = time.monotonic()
    assert check(sockport, timer=SHORT) == 0
    assert time.monotonic() - began >= SHORT / 1000
    world.later(lambda: peer.sendall(b"x"))
    assert check(sockport, timer=LIMIT) == 1


@rows("OP", "CHECK of a connection whose peer has closed: below 0 (OC: -32; or 1, as a bare select says)")
def _(world: World) -> None:
    sockport, peer = world.pair()
    peer.shutdown(socket.SHUT_WR)
    assert check(sockport, timer=LIMIT) == EPIPE
    assert check(sockport, timer=LIMIT, eof="readable") == 1


@rows("OC", "CHECK: what came before the end is told first")
def _(world: World) -> None:
    sockport, peer = world.pair()
    peer.sendall(b"x")
    peer.shutdown(socket.SHUT_WR)
    assert check(sockport, timer=LIMIT) == 1
    assert tcpx(TCPOP_READ, sockport=sockport, timer=LIMIT).status == 1
    assert check(sockport, timer=LIMIT) == EPIPE


@rows("OC", "CHECK of a connection that was reset: -104, and the socket stays")
def _(world: World) -> None:
    sockport, peer = world.pair()
    reset(peer)
    assert check(sockport, timer=LIMIT) == ECONNRESET
    assert check(sockport, timer=LIMIT) == EPIPE
    assert is_open(sockport)


@rows("OC", "CHECK and CHKQTY of what is no socket: -9, -88")
def _(world: World) -> None:
    with open(os.devnull) as file:
        for sockport, status in ((-1, EBADF), (10**6, EBADF), (file.fileno(), ENOTSOCK)):
            assert check(sockport, timer=SHORT) == status
            assert quantity(sockport) == status


@rows("OC", "CHECK of a socket that another thread closes in the meantime: -9, and no wait for ever")
def _(world: World) -> None:
    sockport, peer = world.pair()
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(check, sockport, timer=LIMIT)
        os.dup2(os.open(os.devnull, os.O_RDONLY), sockport)  # as a close, but nobody else gets the number
        peer.sendall(b"x")
        assert waiting.result() in (ENOTSOCK, 1)


# CHKQTY


@rows("OP", "CHKQTY: how many bytes can be read; 0 for none")
def _(world: World) -> None:
    sockport, peer = world.pair()
    assert quantity(sockport) == 0
    peer.sendall(b"hello")
    wait_until(lambda: quantity(sockport) == 5)
    peer.sendall(bytes(1000))
    wait_until(lambda: quantity(sockport) == 1005)


@rows("OP", "CHKQTY of a connection that is closed or dropped: below 0 (OC: as CHECK, when all is read)")
def _(world: World) -> None:
    sockport, peer = world.pair()
    peer.sendall(b"x")
    peer.shutdown(socket.SHUT_WR)
    wait_until(lambda: quantity(sockport) == 1)
    tcpx(TCPOP_READ, sockport=sockport)
    wait_until(lambda: quantity(sockport) == EPIPE)
    assert quantity(sockport, eof="readable") == 0
    sockport, peer = world.pair()
    reset(peer)
    wait_until(lambda: quantity(sockport) < 0)


@rows("OC", "CHKQTY of a listener: -107")
def _(world: World) -> None:
    assert quantity(world.listen()) == ENOTCONN


# SHUTDOWN


@rows("CL", "SHUTDOWN of the writing half: the peer reads the end, and can still send")
def _(world: World) -> None:
    sockport, peer = world.pair()
    assert tcpx(TCPOP_SHUTDOWN, sockport=sockport, flags=TCPXFLG_SHUTWR) == Result(0, sockport=sockport)
    assert peer.recv(1) == b""
    peer.sendall(b"x")
    assert tcpx(TCPOP_READ, sockport=sockport, flags=1, timer=LIMIT).buffer == b"x"
    assert tcpx(TCPOP_WRITE, buffer=b"x", sockport=sockport).status == EPIPE


@rows("CL", "SHUTDOWN of the reading half: READ finds the end, WRITE goes on")
def _(world: World) -> None:
    sockport, peer = world.pair()
    assert tcpx(TCPOP_SHUTDOWN, sockport=sockport, flags=TCPXFLG_SHUTRD).status == 0
    assert tcpx(TCPOP_READ, sockport=sockport, timer=LIMIT).status == 0
    assert tcpx(TCPOP_WRITE, buffer=b"x", sockport=sockport).status == 1
    assert peer.recv(1) == b"x"


@rows("CL", "SHUTDOWN with neither or both: both halves, also for other processes, and CLOSE is still to come")
def _(world: World) -> None:
    for flags in (0, TCPXFLG_SHUTRD | TCPXFLG_SHUTWR):
        sockport, peer = world.pair()
        duplicate = os.dup(sockport)
        assert tcpx(TCPOP_SHUTDOWN, sockport=sockport, flags=flags).status == 0
        assert peer.recv(1) == b""
        assert tcpx(TCPOP_READ, sockport=duplicate, timer=LIMIT).status == 0
        assert tcpx(TCPOP_CLOSE, sockport=sockport).status == 0
        os.close(duplicate)


@rows("ST1", "SHUTDOWN of what is not connected: below 0")
def _(world: World) -> None:
    with socket.socket(world.family) as unconnected:
        assert tcpx(TCPOP_SHUTDOWN, sockport=unconnected.fileno()).status == ENOTCONN
    assert tcpx(TCPOP_SHUTDOWN, sockport=-1).status == EBADF


# CLOSE


@rows("CL", "CLOSE only closes: while another process has the socket, the peer sees nothing")
def _(world: World) -> None:
    sockport, peer = world.pair()
    duplicate = os.dup(sockport)
    assert tcpx(TCPOP_CLOSE, sockport=sockport) == Result(0, sockport=-1)
    assert not is_open(sockport)
    tcpx(TCPOP_WRITE, buffer=b"x", sockport=duplicate)
    assert peer.recv(9) == b"x"
    os.close(duplicate)
    assert peer.recv(1) == b""


@rows("OP", "CLOSE of -1 gives -1")
def _(world: World) -> None:
    assert tcpx(TCPOP_CLOSE, sockport=-1) == Result(-1, sockport=-1)


@rows("ST1", "CLOSE of what is not open: -9; OC: what is no socket is -88, and stays open")
def _(world: World) -> None:
    assert tcpx(TCPOP_CLOSE, sockport=10**6) == Result(EBADF, sockport=10**6)
    with open(os.devnull) as file:
        assert tcpx(TCPOP_CLOSE, sockport=file.fileno()).status == ENOTSOCK
        assert is_open(file.fileno())


@rows("OP", "a connection is not closed when the program forgets its number")
def _(world: World) -> None:
    sockport, peer = world.pair()
    assert tcpx(TCPOP_WRITE, buffer=b"x", sockport=sockport).status == 1
    assert is_open(sockport)
    assert peer.recv(1) == b"x"


# ERRMSG


@rows("ST1", "ERRMSG: the text of the status that is given; OC: in the buffer, for either sign, the status as it was")
def _(world: World) -> None:
    for number in (1, 4, 11, 32, 110):
        for status in (number, -number):
            assert tcpx(TCPOP_ERRMSG, status=status) == Result(status, os.strerror(number).encode(), -1)


@rows("H855", "ERRMSG needs no socket, and leaves it as it was")
def _(world: World) -> None:
    sockport, _ = world.pair()
    assert tcpx(TCPOP_ERRMSG, status=EBADF, sockport=sockport).sockport == sockport


@rows("OC", "ERRMSG of an unknown number: error n")
def _(world: World) -> None:
    for number in (999_999, -999_999):
        assert tcpx(TCPOP_ERRMSG, status=number).buffer == b"error 999999"


@rows("OC", "ERRMSG tells the last failure with a number, in each thread")
def _(world: World) -> None:
    tcpx(TCPOP_CONNECT, sockport=80, hostname="no-such-host.invalid")
    told = tcpx(TCPOP_ERRMSG, status=-errno.EHOSTUNREACH).buffer
    assert told != os.strerror(errno.EHOSTUNREACH).encode()
    with ThreadPoolExecutor() as threads:
        elsewhere = threads.submit(tcpx, TCPOP_ERRMSG, status=-errno.EHOSTUNREACH).result()
    assert elsewhere.buffer == os.strerror(errno.EHOSTUNREACH).encode()
    assert tcpx(TCPOP_ERRMSG, status=-errno.EHOSTUNREACH).buffer == told


# All calls


@rows("OC", "an opcode that is not known: -22; the socket as it was")
def _(world: World) -> None:
    sockport, _ = world.pair()
    for opcode in (3, 0, -1, 13, 10**9):
        assert tcpx(opcode, sockport=sockport) == Result(EINVAL, sockport=sockport)
    assert is_open(sockport)


@rows("H855", "the numbers of the opcodes and flags")
def _(world: World) -> None:
    assert (TCPOP_ACCEPT, TCPOP_WRITE, TCPOP_READ, TCPOP_SHUTDOWN, TCPOP_CLOSE, TCPOP_CHECK) == (1, 2, 4, 5, 6, 7)
    assert (TCPOP_CHKQTY, TCPOP_CONNECT, TCPOP_ERRMSG, TCPOP_STARTTLS) == (8, 9, 11, 12)
    assert (TCPXFLG_BLOCK, TCPXFLG_LISTEN, TCPXFLG_ASYNC, TCPXFLG_KEEPLISTEN) == (1, 4, 8, 16)
    assert (TCPXFLG_STARTTLS, TCPXFLG_TLS, TCPXFLG_SHUTRD, TCPXFLG_SHUTWR) == (0x200000, 0x100000, 1, 2)


@rows("OC", "any numeric type is accepted")
def _(world: World) -> None:
    sockport, peer = world.pair()
    peer.sendall(b"12345678")
    for kind in (float, Decimal, Fraction, int):
        read = tcpx(kind(4), sockport=kind(sockport), flags=kind(2), timer=kind(LIMIT))
        assert (read.status, read.sockport, len(read.buffer)) == (2, sockport, 2)


@rows("OC", "flags on opcodes that take none are ignored")
def _(world: World) -> None:
    sockport, peer = world.pair()
    peer.sendall(b"x")
    assert check(sockport, timer=LIMIT, flags=TCPXFLG_TLS | 0xFF) == 1
    assert quantity(sockport, flags=0xFF) == 1
    assert tcpx(TCPOP_ERRMSG, status=EPIPE, flags=0xFF).buffer == b"Broken pipe"
    assert tcpx(TCPOP_CLOSE, sockport=sockport, flags=0xFF).status == 0


@rows("OC", "a number that another socket has now has nothing of the former one")
def _(world: World) -> None:
    port, server = world.silent_server()
    half_open = tcpx(TCPOP_CONNECT, sockport=port, hostname=world.host, flags=TCPXFLG_ASYNC)
    connected, peer = world.pair()
    os.dup2(connected, half_open.sockport)
    assert check(half_open.sockport) == 0  # for one that was being connected it would be 1
    peer.sendall(b"x")
    assert check(half_open.sockport, timer=LIMIT) == 1
    os.close(half_open.sockport)
    server.close()


@rows("OC", "threads do not disturb each other")
def _(world: World) -> None:
    listener = world.listen(backlog=64)

    def talk(number: int) -> bool:
        connected = tcpx(TCPOP_CONNECT, sockport=port_of(listener), hostname=world.host, timer=LIMIT)
        text = str(number).encode()
        tcpx(TCPOP_WRITE, buffer=text, sockport=connected.sockport)
        answer = tcpx(TCPOP_READ, sockport=connected.sockport, flags=len(text), timer=LIMIT).buffer
        tcpx(TCPOP_CLOSE, sockport=connected.sockport)
        return answer == text

    def serve() -> None:
        for _ in range(200):
            flags = TCPXFLG_ASYNC | TCPXFLG_KEEPLISTEN
            accepted = tcpx(TCPOP_ACCEPT, sockport=listener, flags=flags, timer=LIMIT).sockport
            asked = tcpx(TCPOP_READ, sockport=accepted, timer=LIMIT).buffer
            tcpx(TCPOP_WRITE, buffer=asked, sockport=accepted)
            tcpx(TCPOP_CLOSE, sockport=accepted)

    server = threading.Thread(target=serve)
    server.start()
    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(talk, range(200)))
    server.join()


@pytest.mark.parametrize("check", rows.params)
def test_row(check: Check, world: World) -> None:
    check(world)


@pytest.mark.parametrize(
    "arguments",
    [
        {"opcode": "4"},
        {"opcode": None},
        {"opcode": 4, "sockport": "7"},
        {"opcode": 4, "flags": b"1"},
        {"opcode": 4, "timer": "2"},
        {"opcode": 2, "buffer": 5},
        {"opcode": 2, "buffer": None},
        {"opcode": 4, "interrupted": "never"},
        {"opcode": 4, "eof": "maybe"},
        {"opcode": 4, "sockport": float("nan")},
        {"opcode": 4, "flags": float("inf")},
        {"opcode": 7, "sockary": [1, 2]},
    ],
    ids=repr,
)
def test_oc_misuse_from_python_raises(arguments: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError, OverflowError)):
        tcpx(**arguments)


def test_the_package_imports_fast_and_little() -> None:
    script = "import sys, tcppar.tcpx; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"ssl", "ctypes", "msgspec", "dataclasses", "inspect", "asyncio", "logging"} & set(loaded)


def test_all_that_is_promised_is_there() -> None:
    assert all(hasattr(tcppar.tcpx, name) for name in tcppar.tcpx.__all__)
    assert tcpx(TCPOP_CONNECT, sockport=1, hostname="127.0.0.1").status in (ECONNREFUSED, 0)

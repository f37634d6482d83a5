"""A full service that is removed or stopped: its port is free at once, and nobody is left without an answer."""

import errno
import signal
import socket
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from tests.support import config
from tests.support.command import Serve
from tests.support.server import PATIENCE, Server, read_all, read_line, wait_until

ONE_AT_A_TIME: dict[str, object] = {
    "listen": ["127.0.0.1:0"],
    "command": ["sh", "-c", "echo served; exec cat"],
    "max_connections": 1,
}
OTHER: dict[str, object] = {"command": ["cat"]}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tcppar.toml"


@pytest.fixture
def server(serve: Serve, file: Path) -> Server:
    """One service that is full with one connection, and another."""
    config.write(file, {"full": ONE_AT_A_TIME, "other": OTHER})
    server = serve("-c", file)
    server.wait_for_event("listening", 2)
    return server


def end_service(server: Server, file: Path, how: str) -> None:
    """Remove it by a reload, or stop the server; when its listener is closed, return."""
    if how == "removed":
        config.write(file, {"other": OTHER})
        server.signal(signal.SIGHUP)
    else:
        server.signal(signal.SIGTERM)
    server.wait_for(lambda record: record["event"] == "closed" and record["service"] == "full", patience=5)


def is_free(address: tuple[str, int]) -> bool:
    """Whether another server can have the port."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            other.bind(address)
        except OSError as error:
            return error.errno != errno.EADDRINUSE
    return True


@pytest.mark.parametrize("how", ["removed", "stopped"])
def test_the_port_of_a_full_service_is_free_at_once(server: Server, file: Path, how: str) -> None:
    address = server.address_of("full")
    with socket.create_connection(address, timeout=PATIENCE) as first:
        assert read_line(first) == "served"
        end_service(server, file, how)
        assert is_free(address)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, timeout=PATIENCE)
        first.sendall(b"still here\n")
        assert read_line(first) == "still here"


@pytest.mark.parametrize("how", ["removed", "stopped"])
def test_who_was_in_its_queue_is_served_in_turn(server: Server, file: Path, how: str) -> None:
    address = server.address_of("full")
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(address, timeout=PATIENCE)) for _ in range(4)]
        assert read_line(clients[0]) == "served"
        end_service(server, file, how)
        assert is_free(address)
        for leaving, coming in pairwise(clients):
            assert spawned(server) == 1, "no more than max_connections run at once"
            leaving.shutdown(socket.SHUT_WR)
            read_all(leaving)
            assert read_line(coming) == "served"
        clients[-1].shutdown(socket.SHUT_WR)
        read_all(clients[-1])
    server.wait_for_event("end", 4)
    assert server.events("refused") == []


@pytest.mark.parametrize("how", ["removed", "stopped"])
def test_whoever_waits_for_its_end_is_counted(server: Server, file: Path, how: str) -> None:
    address = server.address_of("full")
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(address, timeout=PATIENCE)) for _ in range(4)]
        assert read_line(clients[0]) == "served"
        end_service(server, file, how)
        told = server.wait_for(lambda record: record["event"] == "clients-wait" and record["waiting"] == 3)[0]
        assert (told["connections"], told["gave_up"]) == (1, 0)


def test_connections_above_a_limit_that_was_lowered_are_counted_as_open(server: Server, file: Path) -> None:
    config.write(file, {"full": ONE_AT_A_TIME | {"max_connections": 2}, "other": OTHER})
    server.signal(signal.SIGHUP)
    server.wait_for_event("reloaded")
    address = server.address_of("full")
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(address, timeout=PATIENCE)) for _ in range(2)]
        assert [read_line(client) for client in clients] == ["served"] * 2
        config.write(file, {"full": ONE_AT_A_TIME, "other": OTHER})
        server.signal(signal.SIGHUP)
        server.wait_for_event("reloaded", 2)
        stack.enter_context(socket.create_connection(address, timeout=PATIENCE))
        told = server.wait_for_event("clients-wait")[0]
        assert (told["waiting"], told["connections"]) == (1, 2)


def spawned(server: Server) -> int:
    """How many children of it run."""
    # A shell becomes it a moment after it has greeted its client.
    return sum(process.name() in ("sh", "cat") for process in psutil.Process(server.pid).children(recursive=True))


def test_whoever_still_waits_at_the_end_of_a_stop_is_told(serve: Serve) -> None:
    options = ["--max-connections", "1", "--drain-timeout", "500ms"]
    server = serve("127.0.0.1:0", *options, "--", "sh", "-c", "echo served; exec cat")
    with server.connect() as first, server.connect() as second:
        assert read_line(first) == "served"
        server.signal(signal.SIGTERM)
        assert second.recv(1) == b""
        assert server.wait() == 0
    (refused,) = server.events("refused")
    assert refused["reason"] == "stop"
    assert server.events("stopped")[0]["accepted"] == 2


def test_a_full_service_can_be_reset_again_and_again(serve: Serve) -> None:
    server = serve("127.0.0.1:0", "--max-connections", "1", "--", "cat")
    with server.connect() as first:
        first.sendall(b"x")
        assert first.recv(1) == b"x"
        for number in range(1, 3):
            server.signal(signal.SIGUSR1)
            server.wait_for_event("reset", number)
            if not server.portable:
                wait_until(lambda: not shares_port(server.address))


def shares_port(address: tuple[str, int]) -> bool:
    """Whether a reset is still under way: until its end another process of this user can be bound there too."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            other.bind(address)
        except OSError:
            return False
    return True


def test_a_reload_that_lowers_the_limit_ends_nobody_and_holds_for_the_next(serve: Serve, file: Path) -> None:
    service = ONE_AT_A_TIME | {"max_connections": 2}
    config.write(file, {"one": service})
    server = serve("-c", file)
    with server.connect() as first, server.connect() as second, server.connect() as third:
        assert read_line(first) == read_line(second) == "served"
        config.write(file, {"one": ONE_AT_A_TIME})
        server.signal(signal.SIGHUP)
        server.wait_for_event("reloaded")
        first.close()
        server.wait_for_event("end")
        assert spawned(server) == 1
        second.close()
        assert read_line(third) == "served"

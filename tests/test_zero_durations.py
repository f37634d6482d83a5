"""What 0 means where a setting is a duration: no time, never `no limit`."""

import resource
import signal
import socket
import sys
from pathlib import Path

import pytest

from tests.support.command import Serve
from tests.support.server import Record, Server, descendants, read_all, read_line
from tests.test_shortage import limited, lowest_free_descriptor

# Tells that it has begun, and cannot be asked to end.
STUBBORN = ["sh", "-c", "trap '' TERM; echo begun; while :; do sleep 60; done"]

only_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of connections")


def end_of_a_silent_client(server: Server) -> Record:
    with server.connect() as client:
        assert client.recv(1) == b""
    return server.wait_for_event("end")[0]


def test_no_lifetime_ends_each_connection_as_it_begins(serve: Serve) -> None:
    end = end_of_a_silent_client(serve("127.0.0.1:0", "--max-lifetime", "0", "--", "cat"))
    assert (end["ended_by"], end["signal"]) == ("max_lifetime", "SIGTERM")


@only_linux
@pytest.mark.parametrize("serve", ["full"], indirect=True)
def test_no_time_to_be_silent_ends_each_connection_as_it_begins(serve: Serve) -> None:
    end = end_of_a_silent_client(serve("127.0.0.1:0", "--idle-timeout", "0", "--", "cat"))
    assert (end["ended_by"], end["signal"]) == ("idle_timeout", "SIGTERM")


@only_linux
@pytest.mark.parametrize("serve", ["full"], indirect=True)
def test_no_time_without_the_client_leaves_those_alone_whose_client_is_there(serve: Serve) -> None:
    server = serve(
        "127.0.0.1:0", "--end-when-client-gone", "0", "--", "sh", "-c", "echo begun; read a; echo $a; sleep 60"
    )
    with server.connect() as stays:
        read_line(stays)
        with server.connect() as leaves:
            read_line(leaves)
        server.wait_for_event("end")  # by then both were looked at
        stays.sendall(b"here\n")
        assert read_line(stays) == "here"
    ends = server.wait_for_event("end", 2)
    assert [(end["ended_by"], end["signal"]) for end in ends] == [("end_when_client_gone", "SIGTERM")] * 2


@pytest.mark.parametrize("size", [1, 100_000])
def test_no_time_to_linger_sends_the_reply_to_who_reads_it(serve: Serve, size: int) -> None:
    server = serve("127.0.0.1:0", "--linger", "0", "--", "head", "-c", str(size), "/dev/zero")
    with server.connect() as client:
        assert read_all(client) == bytes(size)
    server.wait_for_event("end")


def test_no_time_to_finish_ends_children_at_once(serve: Serve) -> None:
    server = serve("127.0.0.1:0", "--drain-timeout", "0", "--kill-timeout", "1h", "--", "cat")
    with server.connect() as client:
        client.sendall(b"begun\n")
        read_line(client)
        server.signal(signal.SIGTERM)
        assert client.recv(1) == b""
    assert server.wait() == 0
    [end] = server.events("end")
    assert (end["ended_by"], end["signal"]) == ("stop", "SIGTERM")


def test_no_time_after_sigterm_kills(serve: Serve) -> None:
    server = serve("127.0.0.1:0", "--drain-timeout", "0", "--kill-timeout", "0", "--", *STUBBORN)
    with server.connect() as client:
        read_line(client)
        assert server.stop() == 0
    [end] = server.events("end")
    assert (end["ended_by"], end["signal"]) == ("stop", "SIGKILL")


def test_no_time_for_a_hand_over_closes_at_once_in_a_shortage_alone(serve: Serve) -> None:
    server = serve("127.0.0.1:0", "--spawners", "1", "--hand-over-timeout", "0", "--", "cat")
    (spawner,) = descendants(server.pid)
    assert server.exchange(b"before") == b"before"
    with limited(spawner, resource.RLIMIT_NOFILE, lowest_free_descriptor(spawner)), server.connect() as client:
        assert read_all(client) == b""
    assert server.wait_for_event("refused")[0]["reason"] == "hand_over_timeout"
    assert server.exchange(b"after") == b"after"


def test_who_waits_for_a_worker_is_in_no_shortage(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "echo.py").write_text("def handle(conn):\n    for line in conn.lines():\n        conn.write(line)\n")
    handler = ["--handler", f"{tmp_path}/echo.py:handle", "--mode", "pool", "--workers", "1"]
    server = serve("127.0.0.1:0", "--hand-over-timeout", "0", *handler)
    with server.connect() as first, server.connect() as second:
        for client in (first, second):
            client.sendall(b"hello\n")
            assert read_line(client) == "hello"
            client.shutdown(socket.SHUT_WR)
    assert server.wait_for_event("end", 2)
    assert server.events("refused") == []

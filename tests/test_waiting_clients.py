"""What is told while conversations go on: that they have begun, and that clients wait for their end."""

import contextlib
import signal
import socket
import struct
from pathlib import Path

import pytest

from tests.conftest import HERE
from tests.support.command import Serve
from tests.support.server import read_all, read_line

ECHO = f"{HERE / 'handlers' / 'echoing.py'}:handle"
FULL = ("--max-connections", "1", "--", "sh", "-c", "echo; exec cat")


# Starts.

KINDS = {"program": ("--", "cat"), "fork": ("--handler", ECHO), "pool": ("--handler", ECHO, "--mode", "pool")}


@pytest.mark.parametrize("kind", KINDS)
def test_a_start_is_told_while_the_connection_is_open(serve: Serve, kind: str) -> None:
    server = serve("127.0.0.1:0", "--log-starts", *KINDS[kind])
    with server.connect() as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        [start] = server.wait_for_event("start")
        assert not server.events("end")
        port = client.getsockname()[1]
    [end] = server.wait_for_event("end")
    assert start["peer"] == f"127.0.0.1:{port}"
    for name in ("id", "service", "peer", "pid", "queued", "spawn"):
        assert start[name] == end[name]


@pytest.mark.parametrize("kind", KINDS)
def test_each_end_has_had_its_start(serve: Serve, kind: str) -> None:
    server = serve("127.0.0.1:0", "--log-starts", *KINDS[kind])
    for _ in range(20):
        server.exchange(b"x")
    server.wait_for_event("end", 20)
    told = [(record["id"], record["event"]) for record in server.records if record["event"] in ("start", "end")]
    assert len(told) == 40
    # Each after its own start; a short one's end and the next one's start come as it happens.
    assert sorted(told, key=lambda one: one[0]) == [
        (id, event) for id in sorted({id for id, _ in told}) for event in ("start", "end")
    ]


def test_no_start_is_told_unless_it_is_asked_for(serve: Serve) -> None:
    server = serve("127.0.0.1:0", "--", "cat")
    server.exchange(b"x")
    server.wait_for_event("end")
    assert not server.events("start")


# Clients who wait.


def test_clients_who_wait_are_told_of(serve: Serve) -> None:
    server = serve("127.0.0.1:0", *FULL)
    with contextlib.ExitStack() as clients:
        read_line(clients.enter_context(server.connect()))
        for _ in range(3):
            clients.enter_context(server.connect())
        [told] = server.wait_for_event("clients-wait")
        assert (told["waiting"], told["gave_up"], told["connections"]) == (1 if server.portable else 3, 0, 1)
        assert (told["level"], told["service"]) == ("warning", "sh")


def test_on_a_unix_socket_it_is_told_that_some_wait(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    server = serve(f"unix:{path}", *FULL)
    with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
        for client in (first, second):
            client.connect(str(path))
        [told] = server.wait_for_event("clients-wait")
        assert (told["waiting"], told["gave_up"]) == (1, 0)


def test_clients_who_gave_up_are_counted(serve: Serve) -> None:
    server = serve("127.0.0.1:0", *FULL)
    if server.portable:
        pytest.skip("only Linux tells what has become of them")
    with server.connect() as first:
        read_line(first)
        gone, reset, quick, patient = (server.connect() for _ in range(4))
        server.wait_for_event("clients-wait")
        gone.close()
        reset.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        reset.close()
        with quick, patient:
            quick.sendall(b"all that I say")
            quick.shutdown(socket.SHUT_WR)
            first.shutdown(socket.SHUT_WR)
            assert read_all(quick) == b"\nall that I say"
            read_line(patient)
            told = server.wait_for_event("clients-wait", 2)[1]
            assert told["gave_up"] == 2
    server.wait_for_event("end", 5)


def test_nothing_is_told_while_nobody_waits(serve: Serve) -> None:
    server = serve("127.0.0.1:0", *FULL)
    with server.connect() as client:
        read_line(client)
        with pytest.raises(AssertionError):  # nothing comes: waiting for it is how the time passes
            server.wait_for_event("clients-wait", patience=2.5)


def test_a_reload_switches_starts_on(serve: Serve, tmp_path: Path) -> None:
    file = tmp_path / "tcppar.toml"
    service = '[service.one]\nlisten = ["127.0.0.1:0"]\ncommand = ["cat"]\n'
    file.write_text(service)
    server = serve("-c", file)
    file.write_text(service + "log_starts = true\n")
    server.signal(signal.SIGHUP)
    server.wait_for_event("reloaded")
    server.exchange(b"x")
    server.wait_for_event("start")

"""Whose doing the end of a conversation is: the client's is one line in the log, the handler's a traceback."""

import socket
import ssl
import struct
from pathlib import Path

import pytest

from tests.handlers import backends
from tests.support.certificates import Authority
from tests.support.command import Serve
from tests.support.handlers import end_of, peer_of, start
from tests.support.server import Record, Server, read_all, read_line

RESET = struct.pack("ii", 1, 0)


@pytest.fixture(params=["fork", "pool"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


only_full = pytest.mark.parametrize("serve", ["full"], indirect=True)


def told(server: Server) -> list[str]:
    """What its handler's processes have written, but for imports."""
    assert server.stop() == 0
    lines = [record["line"] for record in server.events("stderr")]
    return [line for line in lines if "after the fork" not in line]


@pytest.mark.parametrize("kind", ["handle", "coroutine", "Request"])
@only_full
def test_what_a_backend_does_is_the_handlers_fault(serve: Serve, mode: str, kind: str) -> None:
    server = start(serve, f"backends:{kind}", mode=mode)
    for way in backends.WAYS:
        with server.connect() as client:
            client.sendall(f"{way}\n".encode())
            assert read_all(client) == b""
            assert end_of(server, peer_of(client))["exit"] == 1
    lines = told(server)
    assert [line for line in lines if " is gone: " in line or " took too long: " in line] == []
    assert len([line for line in lines if line.startswith(f"handler backends:{kind} failed in")]) == len(backends.WAYS)
    assert len([line for line in lines if "backends.py" in line]) >= len(backends.WAYS)


@pytest.mark.parametrize("kind", ["handle", "Request"])
@only_full
def test_a_backends_fault_is_not_the_clients_though_that_is_gone_too(serve: Serve, kind: str) -> None:
    server = start(serve, f"backends:{kind}")
    with server.connect() as client:
        client.sendall(b"refused\n")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    assert server.wait_for_event("end")[0]["exit"] == 1
    assert any(line.startswith("ConnectionRefusedError") for line in told(server))


LEAVES = ["by_socket", "by_file", "by_streams", "by_tasks", "ByRequest", "ByStream"]


@pytest.mark.parametrize("kind", LEAVES)
@only_full
def test_a_client_that_leaves_is_one_line_whichever_way_it_is_talked_to(serve: Serve, mode: str, kind: str) -> None:
    server = start(serve, f"backends:{kind}", mode=mode)
    end = leave(server)
    [line] = told(server)
    assert line.startswith(f"handler backends:{kind}: connection {end['id']}: {end['peer']} is gone: ")
    assert "reset" in line


def leave(server: Server) -> Record:
    with server.connect() as client:
        assert read_line(client) == "ready"
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        peer = peer_of(client)
    end = end_of(server, peer)
    assert (end["exit"], end["signal"]) == (1, None)
    return end


@pytest.mark.parametrize("kind", ["impatient", "impatient_coroutine", "Impatient"])
def test_a_client_that_takes_too_long_is_one_line(serve: Serve, mode: str, kind: str) -> None:
    server = start(serve, f"backends:{kind}", mode=mode)
    with server.connect() as client:
        assert read_all(client) == b""
        end = end_of(server, peer_of(client))
    assert end["exit"] == 1
    [line] = told(server)
    assert line.startswith(f"handler backends:{kind}: connection {end['id']}: {end['peer']} took too long: ")


def test_a_client_that_sends_too_much_is_one_line(serve: Serve, mode: str) -> None:
    server = start(serve, "backends:strict", mode=mode)
    with server.connect() as client:
        client.sendall(b"xxx")
        assert read_all(client) == b""
        end = end_of(server, peer_of(client))
    assert told(server) == [
        f"handler backends:strict: connection {end['id']}: {end['peer']} sent too much: no separator within 2 bytes"
    ]


@pytest.mark.parametrize("kind", ["waiting", "Waiting"])
@only_full
def test_a_client_that_leaves_tls_or_does_not_speak_it_is_one_line(serve: Serve, tmp_path: Path, kind: str) -> None:
    authority = Authority(tmp_path)
    certificate = authority.certificate("server", "localhost")
    server = start(serve, f"encrypted:{kind}", "--environment", f"TCPPAR_TEST_CERTIFICATE={certificate}")
    context = ssl.create_default_context(cafile=str(authority.file))
    with server.connect() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        with context.wrap_socket(client, server_hostname="localhost") as tls:
            assert tls.recv(100) == b"ready\n"
    server.wait_for_event("end")
    with server.connect() as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert [end["exit"] for end in server.wait_for_event("end", 2)] == [1, 1]
    first, second = told(server)
    assert " is gone: " in first
    assert " failed in TLS: " in second

"""Link-local addresses, of which each interface has its own, and IPv4's in the form of IPv6."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.conftest import tool
from tests.support import command
from tests.support.server import PATIENCE, Server

Serve = Callable[..., Server]

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a network of its own")

LINK_LOCAL = "fe80::7c70"
SET_UP = f'ip link set lo up && ip -6 address add {LINK_LOCAL}/64 dev lo nodad && exec "$@"'
CLIENT = """
import socket, sys
host, port = sys.argv[1:]
with socket.create_connection((host, int(port)), 20) as client:
    client.sendall(b"hello")
    client.shutdown(socket.SHUT_WR)
    sys.stdout.buffer.write(client.recv(100, socket.MSG_WAITALL))
"""


@pytest.fixture
def network() -> list[str]:
    """A wrapper that gives a command a network of its own, with a link-local address."""
    wrapper = [tool("unshare"), "--net", "sh", "-c", SET_UP, "sh"]
    tried = subprocess.run([*wrapper, tool("ip"), "address"], capture_output=True, text=True, check=False)
    return wrapper if LINK_LOCAL in tried.stdout else pytest.skip(f"no network can be made: {tried.stderr}")


def answer(server: Server, host: str, port: int) -> bytes:
    """What a client in the server's network gets, who says hello."""
    inside = [tool("nsenter"), "--net", "--target", str(server.pid)]
    words = [*inside, sys.executable, "-c", CLIENT, host, str(port)]
    return subprocess.run(words, capture_output=True, check=True, timeout=PATIENCE).stdout


def port_of(server: Server) -> int:
    return int(server.events("listening")[-1]["address"].rpartition(":")[2])


@only_root
def test_a_link_local_address_is_listened_on_with_its_interface(serve: Serve, network: list[str]) -> None:
    server = serve(f"[{LINK_LOCAL}%lo]:0", "--", "cat", wrapper=network)
    port = port_of(server)
    assert server.events("listening")[0]["address"] == f"[{LINK_LOCAL}%lo]:{port}"
    assert answer(server, f"{LINK_LOCAL}%lo", port) == b"hello"


@only_root
def test_an_interface_may_be_named_by_its_number(serve: Serve, network: list[str]) -> None:
    server = serve(f"[{LINK_LOCAL}%1]:0", "--", "cat", wrapper=network)
    assert answer(server, f"{LINK_LOCAL}%lo", port_of(server)) == b"hello"


@only_root
def test_a_link_local_address_is_the_same_after_a_reset(serve: Serve, network: list[str]) -> None:
    server = serve(f"[{LINK_LOCAL}%lo]:0", "--", "cat", wrapper=network)
    server.signal(signal.SIGUSR1)
    server.wait_for_event("reset")
    assert answer(server, f"{LINK_LOCAL}%lo", port_of(server)) == b"hello"


def test_an_unknown_interface_is_told_by_check_and_serve() -> None:
    for name in ("check", "serve"):
        outcome = command.run(name, "[fe80::1%tcppar9]:0", "--", "cat")
        assert outcome.returncode == 100
        told = "listen: [fe80::1%tcppar9]:0: this machine has no interface tcppar9"
        assert outcome.stderr == f"tcppar: command line: {told}\n"


def test_an_ipv4_address_in_the_form_of_ipv6_is_ipv4(serve: Serve) -> None:
    server = serve("[::ffff:127.0.0.1]:0", "--", "sh", "-c", "echo $TCPREMOTEIP $TCPLOCALIP")
    assert server.exchange(b"") == b"127.0.0.1 127.0.0.1\n"
    explained = command.run("check", "[::ffff:127.0.0.1]:7080", "--from", "::ffff:192.0.2.1", "--", "cat").stdout
    assert "a client from 192.0.2.1:50000 to 127.0.0.1:7080" in explained


def test_addresses_that_overlap_are_told_by_check_and_serve() -> None:
    for name in ("check", "serve"):
        outcome = command.run(name, "127.0.0.1:7099", "0.0.0.0:7099", "--", "cat")
        assert outcome.returncode == 100
        told = "0.0.0.0:7099 overlaps with 127.0.0.1:7099 of service.cat"
        assert outcome.stderr == f"tcppar: command line: listen: {told}\n"

"""What the kernel tells of a connection, asked by somebody who does not have it."""

import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tcppar.net.diagnostics import Diagnostics
from tcppar.policy.idleness import Sight
from tcppar.records import Endpoints, Family
from tests.conftest import unavailable
from tests.support.server import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of connections")


@dataclass
class Pair:
    """A connection, by both its ends, and the listener it came from."""

    listener: socket.socket
    client: socket.socket
    served: socket.socket
    endpoints: Endpoints

    def sight(self) -> Sight | None:
        with Diagnostics() as diagnostics:
            interface = diagnostics.interface_of(self.endpoints)
            return None if interface is None else diagnostics.look(self.endpoints, interface)

    def seen(self) -> Sight:
        """What is seen where there is something to see."""
        sight = self.sight()
        assert sight is not None
        return sight

    def close(self) -> None:
        for sock in (self.client, self.served, self.listener):
            sock.close()


def connected(family: socket.AddressFamily, kind: Family, host: str, through: str | None = None) -> Pair:
    """A connection of a family to a host, or to where it can be reached by another family's address."""
    try:
        listener = socket.create_server((host, 0), family=family, dualstack_ipv6=through is not None)
    except OSError:
        unavailable(f"this system has no {host}")
    client = socket.create_connection((through or host, listener.getsockname()[1]))
    served, peer = listener.accept()
    own = served.getsockname()
    return Pair(listener, client, served, Endpoints(kind, peer[0], peer[1], own[0], own[1]))


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = connected(socket.AF_INET, Family.IPV4, "127.0.0.1")
    yield pair
    pair.close()


@pytest.mark.parametrize(
    ("family", "kind", "host", "through"),
    [
        (socket.AF_INET, Family.IPV4, "127.0.0.1", None),
        (socket.AF_INET6, Family.IPV6, "::1", None),
        # As a listener of a service manager's can be: one socket for both families.
        (socket.AF_INET6, Family.IPV6, "::", "127.0.0.1"),
    ],
    ids=["IPv4", "IPv6", "IPv4 by IPv6"],
)
def test_what_comes_and_what_is_read_is_seen(
    family: socket.AddressFamily, kind: Family, host: str, through: str | None
) -> None:
    pair = connected(family, kind, host, through)
    assert pair.seen().unread == 0
    pair.client.sendall(b"three")
    wait_until(lambda: pair.seen().unread == 5)
    pair.served.recv(3)
    assert pair.seen().unread == 2
    assert not pair.seen().client_gone
    pair.close()


def test_each_direction_has_a_clock_of_its_own(pair: Pair) -> None:
    wait_until(lambda: min(pair.seen().sent_ago, pair.seen().received_ago) > 0.1)
    pair.client.sendall(b"x")
    wait_until(lambda: pair.seen().received_ago < pair.seen().sent_ago)
    wait_until(lambda: pair.seen().received_ago > 0.1)
    pair.served.sendall(b"x")
    wait_until(lambda: pair.seen().sent_ago < pair.seen().received_ago)


def test_a_client_that_has_closed_its_side_is_gone_and_its_end_counts_as_unread(pair: Pair) -> None:
    pair.client.shutdown(socket.SHUT_WR)
    wait_until(lambda: pair.seen().client_gone)
    assert pair.seen().unread == 1
    assert pair.served.recv(1) == b""
    assert pair.seen().unread == 0
    assert not pair.seen().broken


def test_a_client_is_not_gone_because_its_program_has_said_all(pair: Pair) -> None:
    pair.served.shutdown(socket.SHUT_WR)
    assert pair.client.recv(1) == b""
    assert not pair.seen().client_gone
    pair.client.shutdown(socket.SHUT_WR)
    assert pair.served.recv(1) == b""
    # Both have closed: there is no connection any more, though the program still has its socket.
    wait_until(lambda: pair.sight() is None or pair.seen().client_gone)


def test_a_reset_connection_is_not_found_though_its_listener_is(pair: Pair) -> None:
    pair.served.sendall(b"unread")
    pair.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    pair.client.close()
    wait_until(lambda: pair.sight() is None)
    pair.listener.close()
    assert pair.sight() is None


def test_a_listener_is_found_in_the_place_of_a_connection_that_was_reset(pair: Pair) -> None:
    its = {os.fstat(pair.listener.fileno()).st_ino}
    with Diagnostics() as diagnostics:
        assert not diagnostics.would_find(pair.endpoints, its)
        pair.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        pair.client.close()
        wait_until(lambda: diagnostics.would_find(pair.endpoints, its))
        assert not diagnostics.would_find(pair.endpoints, {os.fstat(pair.served.fileno()).st_ino})
        pair.listener.close()
        assert not diagnostics.would_find(pair.endpoints, its)


def test_a_connection_that_never_was_is_not_found() -> None:
    with Diagnostics() as diagnostics:
        assert diagnostics.interface_of(Endpoints(Family.IPV4, "192.0.2.1", 9, "127.0.0.1", 9)) is None


def test_a_connection_of_an_interface_is_found_there_and_nowhere_else() -> None:
    number, host = link_local()
    with (
        socket.socket(socket.AF_INET6) as listener,
        socket.socket(socket.AF_INET6) as client,
    ):
        listener.bind((host, 0, 0, number))
        listener.listen()
        client.connect((host, listener.getsockname()[1], 0, number))
        served, peer = listener.accept()
        with served, Diagnostics() as diagnostics:
            endpoints = Endpoints(Family.IPV6, host, peer[1], host, listener.getsockname()[1])
            assert diagnostics.interface_of(endpoints) == number
            assert diagnostics.look(endpoints, number) is not None
            assert diagnostics.look(endpoints, 0) is None


def link_local() -> tuple[int, str]:
    """An interface that has a link-local address, and the address."""
    file = Path("/proc/net/if_inet6")
    lines = file.read_text().splitlines() if file.exists() else []
    found = next((line.split() for line in lines if line.startswith("fe80")), None)
    if found is None:
        unavailable("this system has no link-local address")
    return int(found[1], 16), socket.inet_ntop(socket.AF_INET6, bytes.fromhex(found[0]))

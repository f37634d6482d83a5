"""Reloads from one address to another that overlaps with it, and listeners for both families."""

import random
import re
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import combinations
from pathlib import Path

import pytest

from tests.support import command, config
from tests.support.command import Serve
from tests.support.server import PATIENCE, Record, Server, read_all, wait_until

# Tells its client who that is to it.
TELLS = ["sh", "-c", 'echo "$PROTO $TCPREMOTEIP $TCPLOCALIP"']
IPV4, IPV6 = "127.0.0.1", "::1"
FROM = {IPV4: f"TCP {IPV4} {IPV4}", IPV6: f"TCP {IPV6} {IPV6}"}

# How the same port can be listened on, and by which clients of this machine it is found then.
FORMS = {
    "all IPv4": (["0.0.0.0:{}"], {}, {IPV4}),
    "one IPv4": (["127.0.0.1:{}"], {}, {IPV4}),
    "two IPv4": (["127.0.0.1:{}", "127.0.0.2:{}"], {}, {IPV4}),
    "both": ([":{}"], {}, {IPV4, IPV6}),
    "all IPv6": (["[::]:{}"], {}, {IPV6}),
    "one IPv6": (["[::1]:{}"], {}, {IPV6}),
    "dual": (["[::]:{}"], {"ipv6_only": False}, {IPV4, IPV6}),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tcppar.toml"


@pytest.fixture
def port() -> int:
    """One that nobody has, of either family; nor is it given to a client, which could connect to itself then."""
    for number in random.sample(range(20_000, 30_000), 1000):
        with socket.socket() as four, socket.socket(socket.AF_INET6) as six, suppress(OSError):
            six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            four.bind(("0.0.0.0", number))
            six.bind(("::", number))
            return number
    raise AssertionError("no port is free")


def write(file: Path, form: str, port: int) -> None:
    listen, more, _ = FORMS[form]
    service: dict[str, object] = {"listen": [text.format(port) for text in listen], "command": TELLS}
    config.write(file, {"one": service | more})


def reload(server: Server) -> Record:
    before = len(server.events("reloaded")) + len(server.events("reload-failed"))
    server.signal(signal.SIGHUP)
    return server.wait_for(lambda record: record["event"] in ("reloaded", "reload-failed"), before + 1)[before]


def said_to(ip: str, port: int) -> str:
    with socket.create_connection((ip, port), timeout=PATIENCE) as client:
        return read_all(client).decode().strip()


def finds(ip: str, port: int) -> bool:
    try:
        said = said_to(ip, port)
    except ConnectionRefusedError:
        return False
    assert said == FROM[ip]
    return True


@contextmanager
def clients(ip: str, port: int) -> Iterator[list[str]]:
    """Clients, one after the other and from several threads, until the block is left; how those fared who were lost."""
    lost: list[str] = []
    over = threading.Event()

    def come() -> None:
        while not over.is_set():
            try:
                if (said := said_to(ip, port)) != FROM[ip]:
                    lost.append(f"told {said!r}")
            except OSError as error:
                lost.append(str(error))

    threads = [threading.Thread(target=come) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield lost
    finally:
        over.set()
        for thread in threads:
            thread.join()


PAIRS = list(combinations(FORMS, 2))


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_a_reload_goes_from_each_form_to_each_other_and_back(
    serve: Serve, file: Path, port: int, before: str, after: str
) -> None:
    write(file, before, port)
    server = serve("-c", file)
    for form in (before, after, before):
        if form != before or server.events("reloaded"):
            write(file, form, port)
            outcome = reload(server)
            assert outcome["event"] == "reloaded", outcome
        found = FORMS[form][2]
        for ip in FROM:
            wait_until(lambda ip=ip, wanted=ip in found: finds(ip, port) == wanted)  # type: ignore[misc]
    if before != "both":  # with both wildcards taken, the system cannot be made to forget it (steering.exclude_others)
        wait_until(lambda: not any(may_share(port, ip) for ip in FORMS[before][2]))


def may_share(port: int, ip: str = IPV4) -> bool:
    """Whether another process of this user could take clients away."""
    with socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            other.bind((ip, port))
        except OSError:
            return False
    return True


@pytest.mark.parametrize("after", ["both", "one IPv4", "dual"])
def test_no_client_is_lost_by_it(serve: Serve, file: Path, port: int, after: str) -> None:
    write(file, "all IPv4", port)
    server = serve("-c", file)
    if server.portable:
        pytest.skip("there a client who comes in the moment of a close is refused")
    with clients(IPV4, port) as lost:
        for form in (after, "all IPv4") * 3:
            write(file, form, port)
            assert reload(server)["event"] == "reloaded"
            server.wait_for_event("end", len(server.events("end")) + 100)
    assert lost == []


def test_a_reload_that_is_refused_leaves_the_listeners_as_they_are(serve: Serve, file: Path, port: int) -> None:
    write(file, "all IPv4", port)
    server = serve("-c", file)
    config.write(
        file,
        {
            "one": {"listen": [f"127.0.0.1:{port}"], "command": TELLS},
            "two": {"listen": ["192.0.2.1:0"], "command": TELLS},
        },
    )
    with clients(IPV4, port) as lost:
        assert reload(server)["event"] == "reload-failed"
    assert lost == []
    assert not may_share(port)


def test_a_port_that_another_server_has_is_told_with_its_name(serve: Serve, file: Path, port: int) -> None:
    write(file, "one IPv4", port)
    server = serve("-c", file)
    with socket.create_server(("127.0.0.2", port)):
        write(file, "two IPv4", port)
        outcome = reload(server)
    assert outcome["event"] == "reload-failed"
    assert "127.0.0.2" in outcome["mistakes"][0]
    assert finds(IPV4, port)


# Both families on one listener.


def test_ipv6_is_alone_by_default(serve: Serve, port: int) -> None:
    serve(f"[::]:{port}", "--", *TELLS)
    assert finds(IPV6, port)
    assert not finds(IPV4, port)


def test_it_takes_ipv4_too_if_that_is_wanted(serve: Serve, port: int) -> None:
    server = serve(f"[::]:{port}", "--no-ipv6-only", "--", *TELLS)
    assert finds(IPV6, port)
    assert finds(IPV4, port)
    peers = [record["peer"].rpartition(":")[0] for record in server.wait_for_event("end", 2)]
    assert peers == ["[::1]", "127.0.0.1"]


def test_so_it_is_after_a_reset(serve: Serve, port: int) -> None:
    server = serve(f"[::]:{port}", "--no-ipv6-only", "--", *TELLS)
    server.signal(signal.SIGUSR1)
    server.wait_for_event("reset")
    assert finds(IPV6, port)
    assert finds(IPV4, port)


def test_it_is_for_a_wildcard_alone(port: int) -> None:
    outcome = command.run("check", f"127.0.0.1:{port}", "--no-ipv6-only", "--", "cat")
    assert outcome.returncode == 100
    assert "ipv6_only: can only be used with [::]:PORT" in outcome.stderr


@pytest.mark.parametrize("mode", ["fork", "pool"])
def test_handlers_are_told_ipv4_addresses_too(serve: Serve, port: int, mode: str, tmp_path: Path) -> None:
    (tmp_path / "who.py").write_text("def handle(conn): conn.write(f'{conn.peer} {conn.local_address[0]}'.encode())\n")
    serve(f"[::]:{port}", "--no-ipv6-only", "--handler", f"{tmp_path}/who.py:handle", "--mode", mode)
    assert re.fullmatch(r"127\.0\.0\.1:\d+ 127\.0\.0\.1", said_to(IPV4, port))
    assert re.fullmatch(r"\[::1\]:\d+ ::1", said_to(IPV6, port))


def test_idle_ipv4_clients_of_such_a_listener_are_ended(serve: Serve, port: int) -> None:
    server = serve(f"[::]:{port}", "--no-ipv6-only", "--idle-timeout", "300ms", "--", "cat")
    if server.portable:
        pytest.skip("idle_timeout has no effect there")
    with socket.create_connection((IPV4, port), timeout=PATIENCE) as client:
        assert client.recv(1) == b""
    assert server.wait_for_event("end")[0]["ended_by"] == "idle_timeout"


# An address that comes later, and one interface.


def loopback() -> str:
    return next(name for _, name in socket.if_nameindex() if name.startswith("lo"))


def test_an_address_that_is_not_there_can_be_listened_on(serve: Serve, port: int) -> None:
    refused = command.run("serve", f"192.0.2.1:{port}", "--", *TELLS)
    assert refused.returncode == 111
    assert "free_bind" in refused.stderr
    server = serve(f"192.0.2.1:{port}", "--free-bind", "--", *TELLS)
    server.signal(signal.SIGUSR1)
    server.wait_for_event("reset")
    assert server.stop() == 0


def test_one_of_ipv6_too(serve: Serve, port: int) -> None:
    assert serve(f"[2001:db8::1]:{port}", "--free-bind", "--", *TELLS).stop() == 0


def test_clients_come_by_the_interface_that_is_named(serve: Serve, port: int) -> None:
    server = serve(f":{port}", "--bind-to-device", loopback(), "--", *TELLS)
    assert finds(IPV4, port)
    assert finds(IPV6, port)
    server.signal(signal.SIGUSR1)
    server.wait_for_event("reset", 2)
    assert finds(IPV4, port)


def test_an_interface_that_is_not_there_is_told(port: int) -> None:
    outcome = command.run("serve", f"127.0.0.1:{port}", "--bind-to-device", "tcppar-none", "--", "cat")
    assert outcome.returncode == 111
    assert f"cannot listen on 127.0.0.1:{port}: ENODEV" in outcome.stderr
    assert "no interface of this machine is called tcppar-none" in outcome.stderr


def test_a_reload_binds_to_an_interface_and_away_from_it(serve: Serve, file: Path, port: int) -> None:
    def with_device(more: dict[str, object]) -> None:
        service: dict[str, object] = {"listen": [f"0.0.0.0:{port}"], "command": TELLS}
        config.write(file, {"one": service | more})

    with_device({})
    server = serve("-c", file)
    bound: dict[str, object] = {"bind_to_device": loopback()}
    for more in (bound, {}):
        with_device(more)
        assert reload(server)["event"] == "reloaded"
        assert finds(IPV4, port)


@pytest.mark.parametrize("name", ["", "a/b", "sixteen-letters-", "a b"])
def test_what_no_interface_is_called_is_a_mistake(name: str) -> None:
    outcome = command.run("check", "127.0.0.1:0", f"--bind-to-device={name}", "--", "cat")
    assert outcome.returncode == 100
    assert "bind_to_device" in outcome.stderr

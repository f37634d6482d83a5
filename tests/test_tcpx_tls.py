"""TCPX with TLS, row by row, against Python's own TLS and openssl's server."""

import os
import socket
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tcppar.tcpx import (
    TCPOP_ACCEPT,
    TCPOP_CHECK,
    TCPOP_CHKQTY,
    TCPOP_CLOSE,
    TCPOP_CONNECT,
    TCPOP_CONNECT_GREETING,
    TCPOP_ERRMSG,
    TCPOP_READ,
    TCPOP_SHUTDOWN,
    TCPOP_STARTTLS,
    TCPOP_WRITE,
    TCPXFLG_ASYNC,
    TCPXFLG_BLOCK,
    TCPXFLG_KEEPLISTEN,
    TCPXFLG_SHUTWR,
    TCPXFLG_STARTTLS,
    TCPXFLG_TLS,
    Result,
    tcpx,
)
from tests.support.certificates import Authority, tls_server
from tests.support.server import PATIENCE, wait_until
from tests.support.tcpx import (
    EAGAIN,
    EINVAL,
    EOPNOTSUPP,
    EPIPE,
    EPROTO,
    ETIMEDOUT,
    LIMIT,
    SHORT,
    Check,
    Table,
    World,
    fill,
    is_open,
    new_world,
    port_of,
    receive,
)

LATER = TCPXFLG_TLS | TCPXFLG_STARTTLS
MUCH = 3_000_000

rows = Table()


class Trust(NamedTuple):
    """An authority's file, and both sides' contexts with a certificate of its for localhost."""

    authority: Path
    server: ssl.SSLContext
    client: ssl.SSLContext


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def trust(authority: Authority) -> Trust:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF  # an end without the alert is an error
    server.load_cert_chain(authority.certificate("localhost", "localhost"))
    return Trust(authority.file, server, ssl.create_default_context(cafile=authority.file))


class TlsWorld(World):
    """A world where TLS is trusted. The loopback address is `localhost` there, in both families."""

    trust: Trust

    def connect(self, port: int, flags: int = TCPXFLG_TLS, **more: Any) -> Result:
        more = {"timer": LIMIT, "tls": self.trust.authority, **more}
        return tcpx(TCPOP_CONNECT, sockport=port, hostname="localhost", flags=flags, **more)

    def tls_accept(self, server: socket.socket) -> Future[ssl.SSLSocket]:
        """Let another thread accept a client and shake hands with it."""

        def shake_hands() -> ssl.SSLSocket:
            return self.trust.server.wrap_socket(self.accept(server), server_side=True)

        return self.thread(shake_hands)

    def thread(self, action: Callable[[], Any]) -> Future[Any]:
        """Run something beside the test."""
        return self._stack.enter_context(ThreadPoolExecutor()).submit(action)

    def tls_pair(self, flags: int = 0) -> tuple[int, ssl.SSLSocket]:
        """Our end of a connection as a client, and the server's end."""
        server = self.server()
        accepted = self.tls_accept(server)
        sockport = self.keep(self.connect(server.getsockname()[1], TCPXFLG_TLS | flags))
        return sockport, self._stack.enter_context(accepted.result())


@pytest.fixture(params=["127.0.0.1", "::1"], ids=["ipv4", "ipv6"])
def world(request: pytest.FixtureRequest, trust: Trust, monkeypatch: pytest.MonkeyPatch) -> Iterator[TlsWorld]:
    resolve = socket.getaddrinfo

    def resolve_to_loopback(host: str, *arguments: Any, **more: Any) -> Any:
        return resolve(request.param if host == "localhost" else host, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve_to_loopback)
    with new_world(TlsWorld, request.param) as world:
        world.trust = trust
        yield world


def reason(status: int) -> str:
    return tcpx(TCPOP_ERRMSG, status=status).buffer.decode()


# The client


@rows("TLS", "CONNECT with TLS: 0 when the handshake is done; then READ and WRITE, the flag still on every call")
def _(world: TlsWorld) -> None:
    for mode in (0, TCPXFLG_BLOCK):
        sockport, peer = world.tls_pair(mode)
        assert tcpx(TCPOP_WRITE, buffer=b"hello", sockport=sockport, flags=TCPXFLG_TLS).status == 5
        assert receive(peer, 5) == b"hello"
        peer.sendall(b"hello, world")
        assert tcpx(TCPOP_READ, sockport=sockport, flags=TCPXFLG_TLS | 5, timer=LIMIT).buffer == b"hello"
        assert tcpx(TCPOP_READ, sockport=sockport, flags=TCPXFLG_TLS, timer=LIMIT).buffer == b", world"


@rows("OC", "a TLS connection is one also without the flag; a count with it has less than 1 MiB")
def _(world: TlsWorld) -> None:
    sockport, peer = world.tls_pair()
    assert tcpx(TCPOP_WRITE, buffer=b"hello", sockport=sockport, flags=TCPXFLG_TLS | 4).status == 4
    assert tcpx(TCPOP_WRITE, buffer=b"hello", sockport=sockport).status == 5
    assert receive(peer, 9) == b"hellhello"
    assert tcpx(TCPOP_WRITE, buffer=b"hello", sockport=sockport, flags=TCPXFLG_TLS | 6).status == EINVAL


@rows("OC", "the flag on a connection without TLS sends nothing in clear")
def _(world: TlsWorld) -> None:
    sockport, _ = world.pair()
    assert tcpx(TCPOP_WRITE, buffer=b"secret", sockport=sockport, flags=TCPXFLG_TLS) == Result(EINVAL, b"", sockport)
    assert tcpx(TCPOP_WRITE, buffer=b"secret", sockport=sockport, flags=TCPXFLG_TLS | 6).status == EINVAL


@rows("OC", "CHECK and CHKQTY: bytes that are decrypted already count")
def _(world: TlsWorld) -> None:
    sockport, peer = world.tls_pair()
    assert tcpx(TCPOP_CHECK, sockport=sockport).status == 0  # the server's session tickets are no data
    assert tcpx(TCPOP_CHKQTY, sockport=sockport).status == 0
    peer.sendall(b"hello")
    assert tcpx(TCPOP_CHECK, sockport=sockport, timer=LIMIT).status == 1
    assert tcpx(TCPOP_CHKQTY, sockport=sockport).status == 5
    assert tcpx(TCPOP_READ, sockport=sockport, flags=2).buffer == b"he"
    assert tcpx(TCPOP_CHECK, sockport=sockport).status == 1
    peer.sendall(bytes(20_000))
    wait_until(lambda: tcpx(TCPOP_CHKQTY, sockport=sockport).status == 20_003)


@rows("OC", "READ at its time limit: what has come, and -11")
def _(world: TlsWorld) -> None:
    sockport, peer = world.tls_pair()
    assert tcpx(TCPOP_READ, sockport=sockport, flags=9, timer=SHORT).status == EAGAIN
    assert tcpx(TCPOP_READ, sockport=sockport).status == EAGAIN
    peer.sendall(b"hello")
    assert tcpx(TCPOP_READ, sockport=sockport, flags=9, timer=20 * SHORT).buffer == b"hello"


@rows("OC", "a record of which only a part has come is no data yet")
def _(world: TlsWorld) -> None:
    received, to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = world.trust.server.wrap_bio(received, to_send, server_side=True)
    server = world.server()
    port = server.getsockname()[1]
    sockport = world.keep(world.connect(port, TCPXFLG_TLS | TCPXFLG_ASYNC, timer=0)._replace(status=0))
    peer = world.accept(server)
    while True:
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            peer.sendall(to_send.read())
            assert tcpx(TCPOP_CHECK, sockport=sockport).status >= 0
            received.write(peer.recv(65536))
    peer.sendall(to_send.read())
    assert tcpx(TCPOP_CHECK, sockport=sockport, timer=SHORT).status in (0, 1)
    tls.write(b"hello")
    record = to_send.read()
    for byte in record[:-1]:
        peer.sendall(bytes([byte]))
    assert tcpx(TCPOP_CHECK, sockport=sockport, timer=SHORT).status == 0
    assert tcpx(TCPOP_READ, sockport=sockport).status == EAGAIN
    peer.sendall(record[-1:])
    assert tcpx(TCPOP_READ, sockport=sockport, flags=5, timer=LIMIT).buffer == b"hello"


@rows("OC", "WRITE of much: all of it with a timer; a part at the time limit, and the stream stays whole")
def _(world: TlsWorld) -> None:
    sockport, peer = world.tls_pair()
    data = os.urandom(3 * MUCH)
    sent = tcpx(TCPOP_WRITE, buffer=data, sockport=sockport, timer=SHORT).status
    assert 0 < sent < len(data)
    while (more := tcpx(TCPOP_WRITE, buffer=data[sent:], sockport=sockport).status) > 0:
        sent += more  # the system has made more room
    assert more == EAGAIN
    whole = world.thread(lambda: receive(peer, len(data)))
    assert tcpx(TCPOP_WRITE, buffer=data[sent:], sockport=sockport, timer=LIMIT).status == len(data) - sent
    assert whole.result() == data


@rows("OC", "WRITE with a timer, or blocking, comes back when the last record is out of our hands")
def _(world: TlsWorld) -> None:
    for mode, timer in ((0, LIMIT), (TCPXFLG_BLOCK, 0)):
        sockport, peer = world.tls_pair(mode)
        left = fill(sockport) + 10_000  # the former in clear, for nobody decrypts here
        written = world.thread(
            lambda sockport=sockport, timer=timer: tcpx(  # type: ignore[misc]
                TCPOP_WRITE, buffer=bytes(10_000), sockport=sockport, timer=timer
            )
        )
        with socket.socket(fileno=os.dup(peer.fileno())) as raw:
            raw.settimeout(PATIENCE)
            while left > 0:
                piece = raw.recv(65536)
                assert piece
                left -= len(piece)
        assert written.result().status == 10_000


@rows("OC", "READ of much")
def _(world: TlsWorld) -> None:
    sockport, peer = world.tls_pair()
    data = os.urandom(MUCH)
    world.later(lambda: peer.sendall(data))
    got = b""
    while len(got) < MUCH:
        got += tcpx(TCPOP_READ, sockport=sockport, flags=TCPXFLG_TLS | 50_000, timer=LIMIT).buffer
    assert got == data


@rows("OC", "the peer's end: READ 0, CHECK -32, when all is read")
def _(world: TlsWorld) -> None:
    sockport, peer = world.tls_pair()
    peer.sendall(b"x")
    world.later(peer.unwrap)
    assert tcpx(TCPOP_READ, sockport=sockport, flags=9, timer=LIMIT).buffer == b"x"
    assert tcpx(TCPOP_READ, sockport=sockport, flags=9, timer=LIMIT).status == 0
    assert tcpx(TCPOP_CHECK, sockport=sockport, timer=LIMIT).status == EPIPE
    assert tcpx(TCPOP_CHKQTY, sockport=sockport).status == EPIPE
    tcpx(TCPOP_CLOSE, sockport=sockport)


@rows("OC", "an end of the stream that TLS was not told of: what has come, then -71")
def _(world: TlsWorld) -> None:
    sockport, peer = world.tls_pair()
    peer.sendall(b"x")
    peer.close()  # without the alert
    assert tcpx(TCPOP_READ, sockport=sockport, flags=9, timer=LIMIT).buffer == b"x"
    for opcode in (TCPOP_READ, TCPOP_CHECK, TCPOP_CHKQTY):
        assert tcpx(opcode, sockport=sockport, timer=LIMIT).status == EPROTO
    assert "eof" in reason(EPROTO)


@rows("CL", "CLOSE tells the peer that no more comes; SHUTDOWN of the writing half too, and reading goes on")
def _(world: TlsWorld) -> None:
    sockport, peer = world.tls_pair()
    peer.sendall(b"before")
    assert tcpx(TCPOP_CHECK, sockport=sockport, timer=LIMIT).status == 1
    assert tcpx(TCPOP_SHUTDOWN, sockport=sockport, flags=TCPXFLG_SHUTWR).status == 0
    assert peer.recv(1) == b""
    peer.sendall(b", after")
    assert tcpx(TCPOP_READ, sockport=sockport, flags=13, timer=LIMIT).buffer == b"before, after"
    sockport, peer = world.tls_pair()
    assert tcpx(TCPOP_CLOSE, sockport=sockport).status == 0
    assert peer.recv(1) == b""


@rows("CL", "SHUTDOWN of the writing half loses nothing of much that has come, and of what comes after")
def _(world: TlsWorld) -> None:
    sockport, peer = world.tls_pair()
    data = os.urandom(400_000)
    sending = world.thread(lambda: peer.sendall(data))
    assert tcpx(TCPOP_READ, sockport=sockport, flags=100_000, timer=LIMIT).buffer == data[:100_000]
    assert tcpx(TCPOP_SHUTDOWN, sockport=sockport, flags=TCPXFLG_SHUTWR).status == 0
    assert tcpx(TCPOP_READ, sockport=sockport, flags=300_000, timer=LIMIT).buffer == data[100_000:]
    sending.result()


# Certificates


@pytest.mark.parametrize(
    ("name", "host", "valid_to", "why"),
    [
        ("good", "localhost", "20991231235959Z", ""),
        ("expired", "localhost", "20200201000000Z", "certificate has expired"),
        ("wrong", "other.example", "20991231235959Z", "certificate is not valid for 'localhost'"),
    ],
    ids=["good", "expired", "wrong name"],
)
def test_the_certificate_of_openssls_server_is_verified(
    authority: Authority, world: TlsWorld, name: str, host: str, valid_to: str, why: str
) -> None:
    certificate = authority.certificate(f"{name}-{world.family}", host, valid_to)
    with tls_server(certificate, world.host) as server:
        connected = world.connect(server.port)
        if not why:
            assert tcpx(TCPOP_WRITE, buffer=b"hello\n", sockport=world.keep(connected)).status == 6
            server.receive(b"hello\n")
        else:
            assert connected == Result(EPROTO, hostname="localhost")
            assert why in reason(EPROTO)
            assert reason(EPROTO).startswith("certificate verify failed: ")


@rows("OC", "a certificate of an authority that the system does not know is refused, unless tls= says to trust it")
def _(world: TlsWorld) -> None:
    for trusted, status in ((None, EPROTO), (world.trust.client, 0), (str(world.trust.authority), 0)):
        server = world.server()
        accepted = world.tls_accept(server)
        connected = world.connect(server.getsockname()[1], tls=trusted)
        assert connected.status == status
        if status:
            with pytest.raises(ssl.SSLError, match="UNKNOWN_CA"):  # the server is told why
                accepted.result()
        else:
            world.keep(connected)
            world.own(accepted.result())


@rows("OC", "no such file of authorities: -2; no authorities in it: -71")
def _(world: TlsWorld) -> None:
    port = world.server().getsockname()[1]
    assert world.connect(port, tls="/no/such/file").status == -2
    assert world.connect(port, tls="/dev/null").status == EPROTO


@rows("M1", "a non-empty buffer is the list of ciphers")
def _(world: TlsWorld) -> None:
    world.trust.server.maximum_version = ssl.TLSVersion.TLSv1_2
    try:
        server = world.server()
        accepted = world.tls_accept(server)
        world.keep(world.connect(server.getsockname()[1], buffer="ECDHE-ECDSA-AES128-GCM-SHA256"))
        chosen = world.own(accepted.result()).cipher()
        assert chosen
        assert chosen[0] == "ECDHE-ECDSA-AES128-GCM-SHA256"
    finally:
        world.trust.server.maximum_version = ssl.TLSVersion.MAXIMUM_SUPPORTED
    assert world.connect(server.getsockname()[1], buffer=b"NO SUCH CIPHER").status == EPROTO
    assert "no cipher" in reason(EPROTO)


# When the handshake does not come about


@rows("OC", "CONNECT to a server that does not speak TLS: -71, with the reason")
def _(world: TlsWorld) -> None:
    server = world.server()
    world.later(lambda: world.accept(server).sendall(b"220 this is no TLS, but a greeting\r\n"))
    assert world.connect(server.getsockname()[1]) == Result(EPROTO, hostname="localhost")
    assert reason(EPROTO) == "TLS: wrong version number"


@rows("OC", "CONNECT to a server that is silent: -110 when the timer is over, and nothing stays open")
def _(world: TlsWorld) -> None:
    server = world.server()
    before = os.listdir("/proc/self/fd")
    assert world.connect(server.getsockname()[1], timer=20 * SHORT) == Result(ETIMEDOUT, hostname="localhost")
    assert os.listdir("/proc/self/fd") == before


@rows("AC", "ASYNC with TLS: 0 until the handshake is done, which CHECK tells; nothing is sent in clear before")
def _(world: TlsWorld) -> None:
    server = world.server()
    half_open = world.connect(server.getsockname()[1], TCPXFLG_TLS | TCPXFLG_ASYNC, timer=SHORT)
    assert half_open.status == 0
    sockport = world.keep(half_open)
    assert tcpx(TCPOP_WRITE, buffer=b"secret", sockport=sockport).status == EAGAIN
    assert tcpx(TCPOP_CHECK, sockport=sockport).status == 0
    accepted = world.tls_accept(server)
    assert tcpx(TCPOP_CHECK, sockport=sockport, timer=LIMIT).status == 1
    assert tcpx(TCPOP_WRITE, buffer=b"secret", sockport=sockport).status == 6
    assert receive(world.own(accepted.result()), 6) == b"secret"


@rows("AC", "ASYNC with TLS that fails: CHECK tells -71, again and again, and nothing is sent in clear after")
def _(world: TlsWorld) -> None:
    server = world.server()
    half_open = world.connect(server.getsockname()[1], TCPXFLG_TLS | TCPXFLG_ASYNC, timer=SHORT, tls=None)
    sockport = world.keep(half_open)
    accepted = world.tls_accept(server)
    for _ in range(2):
        assert tcpx(TCPOP_CHECK, sockport=sockport, timer=LIMIT).status == EPROTO
        assert "certificate verify failed" in reason(EPROTO)
    assert tcpx(TCPOP_WRITE, buffer=b"secret", sockport=sockport) == Result(EPROTO, sockport=-1)
    with pytest.raises(ssl.SSLError):
        accepted.result()


@rows("OC", "opcode 10 with TLS reads the greeting decrypted")
def _(world: TlsWorld) -> None:
    server = world.server()
    accepted = world.tls_accept(server)

    def greet() -> None:
        accepted.result().sendall(b"220 hello")

    greeting = world.thread(greet)
    greeted = tcpx(
        TCPOP_CONNECT_GREETING,
        sockport=server.getsockname()[1],
        hostname="localhost",
        flags=TCPXFLG_TLS,
        timer=LIMIT,
        tls=world.trust.client,
    )
    greeting.result()
    assert greeted.buffer == b"220 hello"
    world.keep(greeted)
    world.own(accepted.result())


# STARTTLS


def begin_in_clear(world: TlsWorld, **more: Any) -> tuple[int, socket.socket]:
    """A connection that was opened with TLS+STARTTLS, after a few words in clear; and the server's end."""
    server = world.server()
    sockport = world.keep(world.connect(server.getsockname()[1], LATER, **more))
    peer = world.accept(server)
    assert tcpx(TCPOP_WRITE, buffer=b"start TLS", sockport=sockport, flags=TCPXFLG_TLS).status == 9
    assert receive(peer, 9) == b"start TLS"
    peer.sendall(b"go ahead")
    assert tcpx(TCPOP_READ, sockport=sockport, flags=TCPXFLG_TLS | 8, timer=LIMIT).buffer == b"go ahead"
    return sockport, peer


@rows("TLS", "STARTTLS: clear text first, and 0 when all is encrypted from now on")
def _(world: TlsWorld) -> None:
    for timer in (0, LIMIT):
        sockport, peer = begin_in_clear(world)
        tls = world.thread(lambda peer=peer: world.trust.server.wrap_socket(peer, server_side=True))  # type: ignore[misc]
        started = tcpx(TCPOP_STARTTLS, sockport=sockport, flags=TCPXFLG_TLS, timer=timer)
        assert started == Result(0, sockport=sockport)
        with tls.result() as encrypted:
            assert tcpx(TCPOP_WRITE, buffer=b"secret", sockport=sockport, flags=TCPXFLG_TLS).status == 6
            assert receive(encrypted, 6) == b"secret"
            assert tcpx(TCPOP_STARTTLS, sockport=sockport).status == 0  # it is


@rows("OC", "STARTTLS at its time limit: -110; called again it goes on; nothing is sent in clear meanwhile")
def _(world: TlsWorld) -> None:
    sockport, peer = begin_in_clear(world)
    assert tcpx(TCPOP_STARTTLS, sockport=sockport, timer=SHORT) == Result(ETIMEDOUT, sockport=sockport)
    assert tcpx(TCPOP_WRITE, buffer=b"secret", sockport=sockport).status == EAGAIN
    tls = world.thread(lambda: world.trust.server.wrap_socket(peer, server_side=True))
    assert tcpx(TCPOP_STARTTLS, sockport=sockport, timer=LIMIT).status == 0
    with tls.result() as encrypted:
        tcpx(TCPOP_WRITE, buffer=b"secret", sockport=sockport)
        assert receive(encrypted, 6) == b"secret"


@rows("OC", "STARTTLS that fails: -71; the connection never goes back to clear text")
def _(world: TlsWorld) -> None:
    sockport, peer = begin_in_clear(world, tls=None)
    tls = world.thread(lambda: world.trust.server.wrap_socket(peer, server_side=True))
    for _ in range(2):
        assert tcpx(TCPOP_STARTTLS, sockport=sockport, timer=LIMIT) == Result(EPROTO, sockport=sockport)
    assert tcpx(TCPOP_READ, sockport=sockport).status == EPROTO
    assert tcpx(TCPOP_WRITE, buffer=b"secret", sockport=sockport) == Result(EPROTO, sockport=-1)
    with pytest.raises(ssl.SSLError):
        tls.result()


@rows("OC", "STARTTLS of a connection that was not opened for it: -95")
def _(world: TlsWorld) -> None:
    sockport, _ = world.pair()
    assert tcpx(TCPOP_STARTTLS, sockport=sockport).status == EOPNOTSUPP
    assert tcpx(TCPOP_STARTTLS, sockport=-1).status == -9


# The server, which A-Shell lacks


@rows("OC", "ACCEPT with TLS and a context: 0 when the handshake is done; nobody is greeted in clear")
def _(world: TlsWorld) -> None:
    listener = world.listen()
    client = world.thread(
        lambda: world.trust.client.wrap_socket(world.client(port_of(listener)), server_hostname="localhost")
    )
    accepted = tcpx(
        TCPOP_ACCEPT,
        buffer=b"hello",
        sockport=listener,
        flags=TCPXFLG_ASYNC | TCPXFLG_TLS,
        timer=LIMIT,
        tls=world.trust.server,
    )
    assert (accepted.status, accepted.hostname) == (0, world.host)
    with client.result() as peer:
        tcpx(TCPOP_WRITE, buffer=b"secret", sockport=world.keep(accepted), flags=TCPXFLG_TLS)
        assert receive(peer, 6) == b"secret"


@rows("OC", "ACCEPT with TLS and no context: -95, and the client waits on")
def _(world: TlsWorld) -> None:
    listener = world.listen()
    world.client(port_of(listener))
    refused = tcpx(TCPOP_ACCEPT, sockport=listener, flags=TCPXFLG_ASYNC | TCPXFLG_TLS, timer=LIMIT)
    assert refused == Result(EOPNOTSUPP, sockport=listener)
    assert tcpx(TCPOP_CHECK, sockport=listener, timer=LIMIT).status == 1


@rows("OC", "ACCEPT of a client that does not speak TLS, or is silent: -71, -110; the listener stays open")
def _(world: TlsWorld) -> None:
    listener = world.listen()
    for words, limit, status in ((b"GET / HTTP/1.0\r\n\r\n", LIMIT, EPROTO), (b"", 10 * SHORT, ETIMEDOUT)):
        client = world.client(port_of(listener))
        client.sendall(words)
        flags = TCPXFLG_ASYNC | TCPXFLG_TLS
        refused = tcpx(TCPOP_ACCEPT, sockport=listener, flags=flags, timer=limit, tls=world.trust.server)
        assert refused == Result(status, sockport=listener)
        assert is_open(listener)


@rows("OC", "STARTTLS of a server, also for a connection that was inherited: by a context")
def _(world: TlsWorld) -> None:
    listener = world.listen()
    for flags in (LATER, 0):
        client = world.client(port_of(listener))
        accept_flags = TCPXFLG_ASYNC | TCPXFLG_KEEPLISTEN | flags
        context = world.trust.server
        accepted = tcpx(
            TCPOP_ACCEPT, sockport=listener, flags=accept_flags, timer=LIMIT, tls=context if flags else None
        )
        client.sendall(b"clear")
        assert tcpx(TCPOP_READ, sockport=world.keep(accepted), flags=5, timer=LIMIT).buffer == b"clear"
        tls = world.thread(
            lambda client=client: world.trust.client.wrap_socket(client, server_hostname="localhost")  # type: ignore[misc]
        )
        started = tcpx(TCPOP_STARTTLS, sockport=accepted.sockport, timer=LIMIT, tls=None if flags else context)
        assert started.status == 0
        with tls.result() as peer:
            tcpx(TCPOP_WRITE, buffer=b"secret", sockport=accepted.sockport)
            assert receive(peer, 6) == b"secret"


@rows("OC", "TLS on both sides is ours: a client and a server")
def _(world: TlsWorld) -> None:
    listener = world.listen()
    connected = world.thread(lambda: world.connect(port_of(listener)))
    flags = TCPXFLG_ASYNC | TCPXFLG_TLS
    accepted = world.keep(tcpx(TCPOP_ACCEPT, sockport=listener, flags=flags, timer=LIMIT, tls=world.trust.server))
    sockport = world.keep(connected.result())
    data = os.urandom(MUCH)
    world.later(lambda: tcpx(TCPOP_WRITE, buffer=data, sockport=accepted, timer=LIMIT))
    got = b""
    while len(got) < MUCH:
        got += tcpx(TCPOP_READ, sockport=sockport, timer=LIMIT).buffer
    assert got == data


@pytest.mark.parametrize("check", rows.params)
def test_row(check: Check, world: TlsWorld) -> None:
    check(world)

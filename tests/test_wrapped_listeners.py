"""A listener that is wrapped in TLS is refused, for the server would serve clear text; what the refusal says works."""

import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tcppar
from tests.conftest import tool
from tests.handlers import encrypted
from tests.support import request_handlers as handlers
from tests.support.certificates import Authority
from tests.support.command import Serve
from tests.support.handlers import start

TCP = [tcppar.ForkingTCPServer, tcppar.PoolTCPServer]
ALL = [*TCP, tcppar.ForkingUnixStreamServer, tcppar.PoolUnixStreamServer]
REFUSED = "would serve clear text"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Authority(tmp_path_factory.mktemp("authority")).certificate("one", "localhost")


@pytest.fixture
def context(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture
def address(tmp_path: Path) -> Callable[[type[Any]], Any]:
    return lambda kind: str(tmp_path / "socket") if kind.address_family == socket.AF_UNIX else ("127.0.0.1", 0)


@pytest.mark.parametrize("kind", ALL)
def test_a_listener_that_is_wrapped_is_refused(kind: type[Any], address: Any, context: ssl.SSLContext) -> None:
    with kind(address(kind), handlers.Echo) as server:
        plain = server.socket
        wrapped = context.wrap_socket(plain.dup(), server_side=True)
        with wrapped, pytest.raises(tcppar.ConfigurationError, match=REFUSED):
            server.socket = wrapped
        assert server.socket is plain


def test_it_is_refused_in_a_subclass_too(context: ssl.SSLContext) -> None:
    class Encrypting(tcppar.ForkingTCPServer):
        def server_bind(self) -> None:
            super().server_bind()
            with context.wrap_socket(self.socket, server_side=True) as wrapped:
                self.socket = wrapped

    with pytest.raises(tcppar.ConfigurationError, match=REFUSED):
        Encrypting(("127.0.0.1", 0), handlers.Echo)


def test_a_server_takes_no_wrapped_listener_and_no_other_socket(context: ssl.SSLContext) -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain:
        wrapped = context.wrap_socket(plain.dup(), server_side=True)
        with wrapped, pytest.raises(tcppar.ConfigurationError, match=REFUSED):
            tcppar.Server(wrapped, handler="json:dump")
        server = tcppar.Server(plain, handler="json:dump")
        for other in (wrapped, plain):
            with pytest.raises(tcppar.ConfigurationError):
                server.socket = other


def test_a_plain_listener_may_be_put_in_anothers_place() -> None:
    server = tcppar.ForkingTCPServer(("127.0.0.1", 0), handlers.Echo, bind_and_activate=False)
    server.socket.close()
    with socket.create_server(("127.0.0.1", 0)) as other:
        server.socket = other
        assert server.fileno() == other.fileno()


def told(address: Any) -> bytes:
    """What comes back of a line over TLS, by Python's client."""
    trusting = ssl._create_unverified_context()
    with socket.create_connection(address, timeout=30) as plain, trusting.wrap_socket(plain) as client:
        client.sendall(b"by python\n")
        return client.recv(100)


@pytest.mark.parametrize("serve", ["full"], indirect=True)
@pytest.mark.parametrize("mode", ["fork", "pool"])
@pytest.mark.parametrize("name", ["handle", "Request"])
def test_the_handlers_of_the_refusal_serve_tls(serve: Serve, name: str, mode: str, certificate: Path) -> None:
    server = start(serve, f"encrypted:{name}", "--environment", f"TCPPAR_TEST_CERTIFICATE={certificate}", mode=mode)
    for _ in range(3):
        assert told(server.address) == b"by python\n"
    words = [tool("openssl"), "s_client", "-quiet", "-connect", f"127.0.0.1:{server.address[1]}"]
    shown = subprocess.run(words, input=b"by openssl\n", capture_output=True, timeout=30, check=False)
    assert b"by openssl\n" in shown.stdout
    assert {end["exit"] for end in server.wait_for_event("end", 4)} == {0}
    assert server.events("stderr") == []


@pytest.mark.parametrize("kind", TCP)
def test_socketservers_programs_serve_tls_so(kind: type[Any], certificate: Path) -> None:
    class Encrypted(kind):  # type: ignore[misc]
        tcppar_settings = {"environment": {"TCPPAR_TEST_CERTIFICATE": str(certificate)}}  # noqa: RUF012

    with Encrypted(("127.0.0.1", 0), encrypted.Request) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        try:
            assert told(server.server_address) == b"by python\n"
        finally:
            server.shutdown()
            thread.join()


# What else socketserver's servers would accept.


@pytest.mark.parametrize("name", ["handle_timeout", "process_request_thread", "collect_children"])
def test_a_method_for_servers_of_another_kind_is_refused(name: str) -> None:
    kind = type("Mine", (tcppar.ForkingTCPServer,), {name: lambda *_: None})
    with pytest.raises(tcppar.ConfigurationError, match=rf"Mine: Mine\.{name} would not be called"):
        kind(("127.0.0.1", 0), handlers.Echo)


@pytest.mark.parametrize(
    ("name", "instead"), [("timeout", "the request handler's"), ("daemon_threads", "block_on_close")]
)
def test_an_attribute_without_effect_is_refused(name: str, instead: str) -> None:
    kind = type("Mine", (tcppar.PoolTCPServer,), {name: 3})
    with pytest.raises(tcppar.ConfigurationError, match=rf"Mine\.{name}: .*{instead}"):
        kind(("127.0.0.1", 0), handlers.Echo)
    with (
        tcppar.PoolTCPServer(("127.0.0.1", 0), handlers.Echo) as server,
        pytest.raises(tcppar.ConfigurationError, match=instead),
    ):
        setattr(server, name, 3)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("get_request", "would not be called"),
        ("verify_request", "cannot be found by the processes of requests"),
        ("process_request", "cannot be found by the processes of requests"),
        ("handle_error", "cannot be found by the processes of requests"),
    ],
)
def test_a_method_that_is_put_on_the_server_and_could_not_be_called_is_refused(name: str, why: str) -> None:
    with (
        tcppar.ForkingTCPServer(("127.0.0.1", 0), handlers.Echo) as server,
        pytest.raises(tcppar.ConfigurationError, match=why),
    ):
        setattr(server, name, lambda *_: True)


def test_what_the_server_was_told_at_its_start_is_not_changed_while_it_serves() -> None:
    class Changing(tcppar.ForkingTCPServer):
        changed = threading.Event()
        refused: list[str] = []  # noqa: RUF012

        def service_actions(self) -> None:
            for name, value in {"RequestHandlerClass": handlers.EchoesAll, "max_children": 1}.items():
                try:
                    setattr(self, name, value)
                except tcppar.ConfigurationError as error:
                    self.refused.append(str(error))
            self.changed.set()

    with Changing(("127.0.0.1", 0), handlers.Echo) as server:
        server.max_children = 7
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        assert server.changed.wait(30)
        server.shutdown()
        thread.join()
        server.max_children = 8
    assert "set it before" in Changing.refused[0]
    assert len(Changing.refused) >= 2


def test_the_attributes_of_the_listener_have_their_effect() -> None:
    class Shared(tcppar.ForkingTCPServer):
        allow_reuse_port = True

    with Shared(("127.0.0.1", 0), handlers.Echo) as server:
        assert server.socket.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 1

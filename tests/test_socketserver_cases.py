"""Servers with socketserver's interface: the test cases of CPython's own suite that apply, and where the two differ.

The cases are those of Lib/test/test_socketserver.py (CPython 3.13), written anew; each test names those it stands for.

| Case | Here |
| --- | --- |
| test_TCPServer, test_UnixStreamServer | not apart: no server here serves in its own process, one by one |
| test_ThreadingTCPServer, test_ThreadingUnixStreamServer | by PoolTCPServer, PoolUnixStreamServer |
| test_ForkingTCPServer, test_ForkingUnixStreamServer | by ForkingTCPServer, ForkingUnixStreamServer |
| test_UDPServer, test_ThreadingUDPServer, test_ForkingUDPServer | not: tcppar serves connections, not datagrams |
| test_UnixDatagramServer, also Threading and Forking | not: likewise |
| test_shutdown, test_close_immediately | yes |
| test_tcpserver_bind_leak, test_context_manager | yes |
| test_threading_handled, test_threading_not_handled | yes; `handle_error` is in test_request_servers.py |
| test_forking_handled, test_forking_not_handled | likewise |
| test_sync_handled, test_sync_not_handled | not: a handler's error never comes out of a call of the server's |
| SocketWriterTest: test_basics, test_write | yes; what CPython's keep in `self.server` is told to the client |
| test_all | not: it is about the names in the module socketserver |
| test_shutdown_request_called_if_verify_request_false | in test_request_servers.py, by what the client sees |
| test_threads_reaped | not: there are no threads |
"""

import os
import signal
import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import tcppar
from tests.support import request_handlers as handlers
from tests.support.server import PATIENCE, parent_of, read_all, wait_until

Server = tcppar.ForkingTCPServer
FAST = 0.01
"""Seconds between two looks of `serve_forever`."""
SHORT = 0.3
"""Seconds in which a client would be served if there were room."""

TCP = [tcppar.ForkingTCPServer, tcppar.PoolTCPServer]
ALL = [*TCP, tcppar.ForkingUnixStreamServer, tcppar.PoolUnixStreamServer]


@pytest.fixture
def address(tmp_path: Path) -> Callable[[type[Server]], Any]:
    """An address that is free, for a kind of server."""
    return lambda kind: str(tmp_path / "socket") if kind.address_family == socket.AF_UNIX else ("127.0.0.1", 0)


def quiet(kind: type[Server]) -> type[Server]:
    """The same with few processes, and without waiting at the end for conversations that are open."""
    settings = {"drain_timeout": 0} | ({"workers": "1-2"} if issubclass(kind, tcppar.PoolTCPServer) else {})
    return type("Quiet", (kind,), {"tcppar_settings": settings})


@contextmanager
def serving(server: Server) -> Iterator[threading.Thread]:
    """`serve_forever` in a thread, for the block."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": FAST})
    thread.start()
    try:
        yield thread
    finally:
        server.shutdown()
        thread.join(PATIENCE)
        assert not thread.is_alive()


def connect(server: Server) -> socket.socket:
    client = socket.socket(server.address_family)
    client.settimeout(PATIENCE)
    client.connect(server.server_address)
    return client


def exchange(server: Server, data: bytes = b"") -> bytes:
    """Send, and read to the end; the sending is not ended."""
    with connect(server) as client:
        client.sendall(data)
        return read_all(client)


# The stream cases.


@pytest.mark.parametrize("kind", ALL)
def test_one_client_after_the_other_is_served(kind: type[Server], address: Callable[..., Any]) -> None:
    """test_ForkingTCPServer, test_ThreadingTCPServer, test_ForkingUnixStreamServer, test_ThreadingUnixStreamServer."""
    server = quiet(kind)(address(kind), handlers.Echo)
    assert server.server_address == server.socket.getsockname()
    with serving(server):
        for _ in range(3):
            assert exchange(server, b"hello world\n") == b"hello world\n"
    server.server_close()
    assert server.socket.fileno() == -1


def test_shutdown_always_makes_another_thread_leave() -> None:
    """test_shutdown: also when it comes before the thread has come as far as `serve_forever`."""
    servers = [quiet(tcppar.ForkingTCPServer)(("127.0.0.1", 0), handlers.Echo) for _ in range(5)]
    for server in servers:
        with serving(server):
            pass
    for server in servers:
        server.server_close()


def test_a_server_that_never_served_can_be_closed() -> None:
    """test_close_immediately."""
    tcppar.PoolTCPServer(("127.0.0.1", 0), handlers.Echo).server_close()


def test_a_port_that_cannot_be_leaks_no_socket() -> None:
    """test_tcpserver_bind_leak."""
    before = os.listdir("/proc/self/fd")
    for _ in range(20):
        with pytest.raises(OverflowError):
            tcppar.ForkingTCPServer(("127.0.0.1", -1), handlers.Echo)
    assert os.listdir("/proc/self/fd") == before


def test_the_end_of_the_block_closes() -> None:
    """test_context_manager."""
    with tcppar.ForkingTCPServer(("127.0.0.1", 0), handlers.Echo) as server:
        assert server.fileno() == server.socket.fileno() != -1
    assert server.socket.fileno() == -1


# Errors.


@pytest.mark.parametrize("kind", TCP)
@pytest.mark.parametrize("handler", [handlers.RaisesError, handlers.RaisesExit, handlers.RaisesInterrupt])
def test_whatever_a_handler_raises_its_client_sees_an_orderly_end_and_the_next_is_served(
    kind: type[Server], handler: type[Any]
) -> None:
    """test_forking_handled, test_forking_not_handled, test_threading_handled, test_threading_not_handled."""
    with quiet(kind)(("127.0.0.1", 0), handler) as server, serving(server) as thread:
        for _ in range(2):
            assert exchange(server) == b"called\n"
        assert thread.is_alive()


# Writing.


@pytest.mark.parametrize("kind", ALL)
def test_the_file_to_write_to_is_a_binary_stream_of_the_connection(
    kind: type[Server], address: Callable[..., Any]
) -> None:
    """test_basics."""
    with quiet(kind)(address(kind), handlers.TellsItsFile) as server, serving(server):
        assert exchange(server) == b"True True\n"


@pytest.mark.parametrize("kind", ALL)
def test_writes_are_sent_at_once_and_a_signal_does_not_cut_them(
    kind: type[Server], address: Callable[..., Any], tmp_path: Path
) -> None:
    """test_write."""
    fifo = tmp_path / "signalled"
    os.mkfifo(fifo)
    with (
        quiet(kind)(address(kind), handlers.WritesMuch) as server,
        serving(server),
        connect(server) as client,
        client.makefile("rb") as reader,
    ):
        first = reader.readline()  # no flush was needed
        client.sendall(os.fsencode(fifo) + b"\n")
        with open(fifo, "rb", buffering=0) as signalled:
            received = len(reader.read(100))
            # It is blocked in its write, for nobody reads the rest, and is interrupted there.
            for _ in range(3):
                os.kill(int(first), signal.SIGUSR1)
                assert signalled.read(1) == b"x"
            received += len(reader.read(handlers.LARGE - received))
        assert received == handlers.LARGE
        assert int(reader.read()) == len(first) + handlers.LARGE


# StreamRequestHandler's attributes, and BaseRequestHandler's methods. CPython's suite has no cases of its own for them.


def test_a_reader_without_a_buffer_leaves_the_rest_in_the_socket() -> None:
    with quiet(tcppar.ForkingTCPServer)(("127.0.0.1", 0), handlers.Unbuffered) as server, serving(server):
        assert exchange(server, b"a line\nand the rest") == b"and the rest"


def test_a_buffer_for_writing_is_emptied_at_the_end() -> None:
    with quiet(tcppar.ForkingTCPServer)(("127.0.0.1", 0), handlers.BufferedWriter) as server, serving(server):
        assert exchange(server) == b"second first third"


def test_the_time_limit_of_a_handler_is_in_force() -> None:
    with quiet(tcppar.PoolTCPServer)(("127.0.0.1", 0), handlers.Impatient) as server, serving(server):
        assert exchange(server) == b"timed out"


def test_a_handler_can_have_its_writes_sent_at_once() -> None:
    with quiet(tcppar.ForkingTCPServer)(("127.0.0.1", 0), handlers.WithoutNagle) as server, serving(server):
        assert exchange(server) == b"1"


def test_setup_comes_before_handle_and_finish_after_it() -> None:
    with quiet(tcppar.PoolTCPServer)(("127.0.0.1", 0), handlers.Phases) as server, serving(server):
        assert exchange(server) == b"setup handle finish"


# Where the two differ.


class OnIPv6(tcppar.ForkingTCPServer):
    address_family = socket.AF_INET6


@pytest.mark.parametrize("kind", [tcppar.ForkingTCPServer, OnIPv6, tcppar.ForkingUnixStreamServer])
def test_a_handler_is_given_addresses_in_the_form_of_their_family_and_a_small_server(
    kind: type[Server], address: Callable[..., Any]
) -> None:
    where = ("::1", 0) if kind is OnIPv6 else address(kind)
    with quiet(kind)(where, handlers.TellsItsServer) as server, serving(server):
        with connect(server) as client:
            told = read_all(client).decode()
            assert told.startswith(repr((client.getsockname(), server.server_address, True))[:-1])
        assert "self.server has no 'database' here: the server is another process" in told


def test_clients_who_come_before_it_serves_and_between_wait_and_are_served() -> None:
    with tcppar.ForkingTCPServer(("127.0.0.1", 0), handlers.Echo) as server:
        for _ in range(2):
            # The second one may still be served by what the first `serve_forever` had started.
            with connect(server) as early:
                early.sendall(b"early\n")
                with serving(server):
                    assert read_all(early) == b"early\n"


def test_shutdown_does_not_wait_for_requests_and_closing_does() -> None:
    server = tcppar.ForkingTCPServer(("127.0.0.1", 0), handlers.EchoesAll)
    with connect(server) as client, client.makefile("rwb", buffering=0) as file:
        with serving(server):
            file.write(b"1\n")
            assert file.readline() == b"1\n"
        file.write(b"2\n")
        assert file.readline() == b"2\n"
        closing = threading.Thread(target=server.server_close)
        closing.start()
        wait_until(lambda: server.socket.fileno() == -1)
        file.write(b"3\n")
        assert file.readline() == b"3\n"
        assert closing.is_alive()
    closing.join(PATIENCE)
    assert not closing.is_alive()


def test_a_server_that_does_not_block_on_close_leaves_requests_to_themselves() -> None:
    class NotBlocking(tcppar.ForkingTCPServer):
        block_on_close = False

    server = NotBlocking(("127.0.0.1", 0), handlers.EchoesAll)
    with connect(server) as client, client.makefile("rwb", buffering=0) as file:
        with serving(server):
            file.write(b"1\n")
            assert file.readline() == b"1\n"
        server.server_close()
        file.write(b"2\n")
        assert file.readline() == b"2\n"
    server.block_on_close = True
    server.server_close()


def test_no_more_requests_are_served_at_once_than_children_are_allowed() -> None:
    class Small(tcppar.ForkingTCPServer):
        max_children = 1

    with Small(("127.0.0.1", 0), handlers.TellsItsProcess) as server, serving(server):
        first, second = connect(server), connect(server)
        with first, second:
            assert first.recv(100)
            second.settimeout(SHORT)
            with pytest.raises(TimeoutError):
                second.recv(100)
            second.settimeout(PATIENCE)
            first.close()
            assert second.recv(100)


def test_the_actions_between_requests_are_done_in_the_program() -> None:
    class Active(tcppar.ForkingTCPServer):
        acted = threading.Event()

        def service_actions(self) -> None:
            self.acted.set()

    with Active(("127.0.0.1", 0), handlers.Echo) as server, serving(server):
        assert server.acted.wait(PATIENCE)


def test_a_server_that_is_killed_is_an_error_of_serve_forever() -> None:
    server = tcppar.ForkingTCPServer(("127.0.0.1", 0), handlers.TellsItsProcess)
    errors: list[BaseException] = []

    def serve() -> None:
        try:
            server.serve_forever(FAST)
        except tcppar.SystemRefused as error:
            errors.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    with connect(server) as client:
        spawner = int(client.recv(100).split()[1])
        os.kill(parent_of(spawner) or 0, signal.SIGKILL)
        thread.join(PATIENCE)
    server.server_close()
    assert [str(error) for error in errors] == ["the server ended (signal SIGKILL)"]


def test_a_single_request_cannot_be_asked_for() -> None:
    with (
        tcppar.ForkingTCPServer(("127.0.0.1", 0), handlers.Echo) as server,
        pytest.raises(NotImplementedError, match="use serve_forever and shutdown"),
    ):
        server.handle_request()


@pytest.mark.parametrize("name", ["get_request", "handle_timeout", "process_request_thread", "collect_children"])
def test_a_method_that_would_not_be_called_is_refused_by_its_name(name: str) -> None:
    kind = type("Mine", (tcppar.PoolTCPServer,), {name: lambda *_: None})
    with pytest.raises(tcppar.ConfigurationError, match=rf"Mine: Mine\.{name} would not be called"):
        kind(("127.0.0.1", 0), handlers.Echo)


def test_a_mix_in_of_socketservers_is_refused() -> None:
    class Threading(socketserver.ThreadingMixIn, tcppar.PoolTCPServer):
        pass

    with pytest.raises(tcppar.ConfigurationError, match="leave out ThreadingMixIn") as refusal:
        Threading(("127.0.0.1", 0), handlers.Echo)
    assert len(refusal.value.mistakes) == 1


def test_a_handler_or_a_setting_that_cannot_be_is_refused_before_anything_is_bound() -> None:
    class Inside(socketserver.BaseRequestHandler):
        pass

    class Mistaken(tcppar.ForkingTCPServer):
        tcppar_settings = {"max_lifetme": 5}  # noqa: RUF012

    before = os.listdir("/proc/self/fd")
    with pytest.raises(tcppar.ConfigurationError, match="is defined inside a function"):
        tcppar.ForkingTCPServer(("127.0.0.1", 0), Inside)
    with pytest.raises(tcppar.ConfigurationError, match="did you mean max_lifetime"):
        Mistaken(("127.0.0.1", 0), handlers.Echo)
    assert os.listdir("/proc/self/fd") == before


def test_the_attributes_of_the_class_reach_the_listener() -> None:
    class Small(tcppar.ForkingTCPServer):
        request_queue_size = 3
        allow_reuse_address = False

    for kind, reuses in ((Small, 0), (tcppar.ForkingTCPServer, 1)):
        with kind(("127.0.0.1", 0), handlers.Echo) as server:
            assert server.socket.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == reuses
    with Small(("127.0.0.1", 0), handlers.Echo) as server:
        assert backlog(server.socket) == 3


def backlog(listener: socket.socket) -> int:
    """The length of a TCP listener's queue: tcpi_sacked of struct tcp_info (linux/tcp.h), where it means that."""
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 36)
    return int.from_bytes(info[28:32], sys.byteorder)

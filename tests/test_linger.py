"""The last bytes of a reply arrive, though the program has left input unread."""

import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from tcppar.quantities import Duration
from tcppar.settings import ServiceSettings
from tcppar.supervisor.succession.cover import Cover
from tcppar.supervisor.succession.handing_on import write_structure
from tcppar.supervisor.succession.ledger import Ledger
from tests.conftest import HERE, tool
from tests.support import config
from tests.support.command import Serve
from tests.support.server import PATIENCE, Server, descriptors, read_all, read_line, wait_until
from tests.support.succession import kill_supervisor, upgrade

CLIENTS = 20
# More than a client's system takes before the client reads: the rest is still the server's when the program ends.
REPLY = 200_000
REPLYING = ["head", "-c", str(REPLY), "/dev/zero"]
UNREAD = b"nobody reads this"
HANDLER = f"{HERE / 'handlers' / 'replying.py'}:handle"

only_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs what only Linux has")


def asked(client: socket.socket) -> socket.socket:
    client.sendall(UNREAD)
    return client


def length_of_reply(client: socket.socket) -> int:
    return len(read_all(client))


def test_every_client_gets_all_of_the_reply(serve: Serve) -> None:
    server = serve("127.0.0.1:0", "--linger", "1m", "--spawners", "1", "--", *REPLYING)
    before = descriptors(server.pid)
    clients = [asked(server.connect()) for _ in range(CLIENTS)]
    server.wait_for_event("end", CLIENTS)
    for client in clients:
        with client:
            assert length_of_reply(client) == REPLY
    wait_until(lambda: descriptors(server.pid) == before)


@pytest.mark.parametrize("mode", ["fork", "pool"])
def test_a_handler_may_leave_input_unread_too(serve: Serve, mode: str) -> None:
    server = serve("127.0.0.1:0", "--handler", HANDLER, "--mode", mode, "--linger", "1m")
    clients = [asked(server.connect()) for _ in range(CLIENTS)]
    server.wait_for_event("end", CLIENTS)
    for client in clients:
        with client:
            assert length_of_reply(client) == REPLY


def test_the_child_of_a_dead_spawner_leaves_nothing_unsent(serve: Serve, tmp_path: Path) -> None:
    go_on = tmp_path / "go on"
    os.mkfifo(go_on)
    program = f'read line; [ "$line" = stay ] || exit; echo; read line < "{go_on}"; {" ".join(REPLYING)}'
    server = serve("127.0.0.1:0", "--linger", "1m", "--spawners", "1", "--", "sh", "-c", program)
    [spawner] = server.wait_for_event("spawner")
    with server.connect() as client:
        client.sendall(b"stay\n" + UNREAD)
        read_line(client)
        assert server.exchange(b"go\n") == b""  # what its spawner has said of the first one was heard before this
        os.kill(spawner["pid"], signal.SIGKILL)
        server.wait_for_event("spawner-died")
        go_on.write_text("\n")
        server.wait_for_event("end", 2)
        assert length_of_reply(client) == REPLY


def test_a_program_that_is_ended_by_a_rule_has_said_what_it_said(serve: Serve) -> None:
    program = f"{' '.join(REPLYING)}; exec sleep 1000"
    server = serve("127.0.0.1:0", "--linger", "1m", "--max-lifetime", "500ms", "--", "sh", "-c", program)
    with asked(server.connect()) as client:
        [end] = server.wait_for_event("end")
        assert end["ended_by"] == "max_lifetime"
        assert length_of_reply(client) == REPLY


def test_on_a_unix_socket_the_reply_has_an_end_and_no_error(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    server = serve(f"unix:{path}", "--linger", "1m", "--", "echo", "hello")
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.connect(str(path))
        asked(client)
        server.wait_for_event("end")
        assert read_all(client) == b"hello\n"


def test_what_the_client_sends_after_the_end_is_thrown_away(serve: Serve) -> None:
    server = serve("127.0.0.1:0", "--linger", "1m", "--", *REPLYING)
    with asked(server.connect()) as client:
        server.wait_for_event("end")
        client.sendall(bytes(10_000_000))  # more than there is room for, if nobody took it
        assert length_of_reply(client) == REPLY


def test_a_client_that_stays_is_parted_with_after_the_time(serve: Serve) -> None:
    server = serve("127.0.0.1:0", "--linger", "300ms", "--spawners", "1", "--", "echo", "hello")
    before = descriptors(server.pid)
    with asked(server.connect()) as client:
        assert read_all(client) == b"hello\n"
        wait_until(lambda: descriptors(server.pid) == before)
        with pytest.raises(ConnectionError):
            wait_until(lambda: client.send(b"still here") == 0)


def test_no_more_clients_linger_than_there_may_be_connections(serve: Serve) -> None:
    most, more = 3, 8
    server = serve("127.0.0.1:0", "--linger", "1h", "--max-connections", most, "--spawners", "1", "--", "echo", "hello")
    before = descriptors(server.pid)
    clients = [server.connect() for _ in range(most + more)]
    for client in clients:
        asked(client)
        assert read_all(client) == b"hello\n"
    server.wait_for_event("end", most + more)
    wait_until(lambda: descriptors(server.pid) == before + most)
    for old in clients[:more]:
        with old, pytest.raises(ConnectionError):
            wait_until(lambda: old.send(b"still here") == 0)  # noqa: B023
    for young in clients[more:]:
        with young:
            asked(young)
    wait_until(lambda: descriptors(server.pid) == before)


def test_a_stop_waits_for_clients_that_still_receive(serve: Serve) -> None:
    server = serve("127.0.0.1:0", "--linger", "1m", "--", *REPLYING)
    with asked(server.connect()) as client:
        server.wait_for_event("end")
        server.signal(signal.SIGTERM)
        server.wait_for_event("closed")
        with pytest.raises(AssertionError):  # nothing comes: waiting for it is how the time passes
            server.wait_for_event("stopped", patience=1.0)
        assert length_of_reply(client) == REPLY
    assert server.wait() == 0
    [stopped] = server.wait_for_event("stopped")
    assert (stopped["accepted"], stopped["ended"]) == (1, 1)


def test_a_stop_that_is_hurried_does_not_wait_for_clients(serve: Serve) -> None:
    program = 'read line; trap "echo asked" TERM; echo "$line"; while [ "$line" = stay ]; do sleep 0.05; done'
    server = serve("127.0.0.1:0", "--linger", "1h", "--", "sh", "-c", program)
    with server.connect() as going, server.connect() as staying:
        staying.sendall(b"stay\n" + UNREAD)
        assert read_line(staying) == "stay"
        going.sendall(b"go\n" + UNREAD)
        server.wait_for_event("end")
        server.signal(signal.SIGINT)
        server.wait_for_event("stopping")
        server.signal(signal.SIGINT)
        assert read_line(staying) == "asked"
        assert server.stop(signal.SIGINT) == 0
    assert [(end["signal"], end["ended_by"]) for end in server.events("end")] == [(None, None), ("SIGKILL", "stop")]


def test_a_reload_switches_it_on_for_new_connections(serve: Serve, tmp_path: Path) -> None:
    file = tmp_path / "tcppar.toml"
    one = {"listen": ["127.0.0.1:0"], "command": REPLYING}
    config.write(file, {"one": one})
    server = serve("-c", file)
    config.write(file, {"one": one | {"linger": "1m"}})
    server.signal(signal.SIGHUP)
    server.wait_for_event("reloaded")
    with asked(server.connect()) as client:
        server.wait_for_event("end")
        assert length_of_reply(client) == REPLY


# Programs that leave somebody behind who writes on.

COPYING = [sys.executable, "-S", str(HERE / "children" / "copying.py")]
COPIED = 50_000  # what a pipe takes, so that the program can end before somebody reads
WRAPPED = ["head", "-c", str(COPIED), "/dev/zero"]
WRAPPERS = ["recordio", "fixcrio"]
RUSH = 64


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """What a copier waits for."""
    path = tmp_path / "gate"
    os.mkfifo(path)
    return path


def open_gate(gate: Path) -> None:
    """Let the copier go on, when it has come so far."""
    gate.write_text("")


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_nobody_loses_a_reply_behind_a_wrapper_that_copies(serve: Serve, wrapper: str) -> None:
    server = serve("127.0.0.1:0", "--linger", "1m", "--", tool(wrapper), "echo", "hello")
    with ThreadPoolExecutor(8) as clients:
        replies = list(clients.map(lambda _: server.exchange(b""), range(RUSH)))
    assert Counter(reply.strip() for reply in replies) == {b"hello": RUSH}


@pytest.mark.parametrize("stderr", ["log", "null"])
@pytest.mark.parametrize("where", ["here", "group", "session"])
def test_whoever_is_left_can_write_on(serve: Serve, gate: Path, where: str, stderr: str) -> None:
    options = ["--linger", "1m", "--stderr", stderr]
    server = serve("127.0.0.1:0", *options, "--", *COPYING, where, str(gate), *WRAPPED)
    if stderr == "null" and (where == "session" or (where == "group" and server.portable)):
        pytest.skip("it left the session, or the group, and nothing else is known of it")
    with asked(server.connect()) as client:
        server.wait_for_event("end")
        open_gate(gate)
        assert length_of_reply(client) == COPIED


def test_a_program_that_setsid_runs_is_waited_for(serve: Serve, gate: Path) -> None:
    program = f'read line < "{gate}"; echo hello'
    server = serve("127.0.0.1:0", "--linger", "1m", "--", tool("setsid"), "sh", "-c", program)
    with asked(server.connect()) as client:
        server.wait_for_event("end")
        open_gate(gate)
        assert read_all(client) == b"hello\n"


def test_a_daemon_that_has_closed_the_connection_keeps_no_client_waiting(serve: Serve) -> None:
    program = "echo hello; sleep 1000 <&- >&- & "
    server = serve("127.0.0.1:0", "--linger", "1h", "--", "sh", "-c", program)
    if server.portable:
        pytest.skip("only Linux tells who has the connection open")
    try:
        assert server.exchange(UNREAD) == b"hello\n"
    finally:
        end_group(server)


def test_whoever_does_not_end_is_waited_for_no_longer_than_the_client(serve: Serve) -> None:
    server = serve("127.0.0.1:0", "--linger", "300ms", "--", "sh", "-c", "echo hello; sleep 1000 &")
    try:
        assert server.exchange(UNREAD) == b"hello\n"
    finally:
        end_group(server)


def end_group(server: Server) -> None:
    [end] = server.wait_for_event("end")
    os.killpg(end["pid"], signal.SIGKILL)


def test_a_stop_waits_for_whoever_is_left(serve: Serve, gate: Path) -> None:
    server = serve("127.0.0.1:0", "--linger", "1m", "--", *COPYING, "here", str(gate), *WRAPPED)
    with server.connect() as client:
        server.wait_for_event("end")
        server.signal(signal.SIGTERM)
        server.wait_for_event("closed")
        open_gate(gate)
        assert length_of_reply(client) == COPIED
    assert server.wait() == 0


def test_a_keeper_gives_a_stop_the_time_to_wait_for_them() -> None:
    settings = ServiceSettings(drain_timeout=Duration(1), kill_timeout=Duration(2), linger=Duration(5))
    service = SimpleNamespace(config=SimpleNamespace(settings=settings))
    books = Ledger.new()
    try:
        write_structure(books, b"", [service])  # type: ignore[list-item]
        assert Cover(books.descriptor).patience == (11, 2)
    finally:
        books.close()


@pytest.mark.parametrize("mode", ["fork", "pool"])
def test_where_nobody_is_left_nobody_is_waited_for(serve: Serve, mode: str) -> None:
    """A worker goes on after its conversation, which is no reason to wait."""
    server = serve("127.0.0.1:0", "--handler", HANDLER, "--mode", mode, "--linger", "1h")
    with asked(server.connect()) as client:
        assert length_of_reply(client) == REPLY


# When another supervisor goes on.


@pytest.fixture(params=[upgrade, kill_supervisor], ids=["upgrade", "death"])
def succeed(request: pytest.FixtureRequest) -> Callable[[Server], object]:
    """Lets another supervisor go on in the place of a server's."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def kept() -> Iterator[Server]:
    """A server with a keeper, of a program that replies when it has read a line."""
    program = f"echo; read line; {' '.join(REPLYING)}"
    arguments = ["127.0.0.1:0", "--keep", "--linger", "1m", "--spawners", "1", "--", "sh", "-c", program]
    with Server(*arguments) as server:
        yield server


@only_linux
def test_a_client_that_still_receives_gets_the_rest(kept: Server, succeed: Callable[[Server], object]) -> None:
    with kept.connect() as client:
        client.sendall(b"go\n" + UNREAD)
        kept.wait_for_event("end")
        succeed(kept)
        with kept.connect() as another:
            read_line(another)
        client.sendall(UNREAD)
        assert length_of_reply(client) == 1 + REPLY
    kept.wait_for_event("end", 2)
    assert kept.stop() == 0
    [stopped] = kept.events("stopped")
    assert (stopped["accepted"], stopped["ended"]) == (2, 2)


@only_linux
def test_a_program_that_ends_later_leaves_nothing_unsent(kept: Server, succeed: Callable[[Server], object]) -> None:
    with kept.connect() as client:
        read_line(client)
        succeed(kept)
        client.sendall(b"go\n" + UNREAD)
        kept.wait_for_event("end")
        assert length_of_reply(client) == REPLY


@only_linux
@pytest.mark.parametrize("where", ["here", "session"])
def test_whoever_is_left_then_can_write_on(gate: Path, succeed: Callable[[Server], object], where: str) -> None:
    arguments = ["127.0.0.1:0", "--keep", "--linger", "1m", "--", *COPYING, where, str(gate), *WRAPPED]
    with Server(*arguments) as server:
        with asked(server.connect()) as client:
            server.wait_for_event("end")
            succeed(server)
            open_gate(gate)
            assert length_of_reply(client) == COPIED
        assert server.stop() == 0
        [stopped] = server.events("stopped")
        assert (stopped["accepted"], stopped["ended"]) == (1, 1)

"""Listening sockets: who comes to which, what a reset or an end does to those in the queue, and who else may bind."""

import errno
import os
import select
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tcppar.errors import SystemRefused
from tcppar.net.address import Address
from tcppar.net.listener import Accepted, Listener, open_listeners
from tcppar.net.opening import ListenerOptions
from tcppar.net.platform import PORTABLE, Features, detect
from tcppar.net.steering import where_permitted
from tcppar.records import Family, PeerCredentials
from tests.support.descriptors import no_descriptor_free

FULL = where_permitted(detect({}))
OPTIONS = ListenerOptions(backlog=100)
PATIENCE = 30.0
LONGEST_PATH = 107  # sun_path of unix(7), with its end

only_with_steering = pytest.mark.skipif(not FULL.steering, reason="this system does not let us steer new clients")
only_where_turned_away = pytest.mark.skipif(
    not FULL.turning_away, reason="this system does not let us turn new clients away"
)

Listen = Callable[..., list[Listener]]


@pytest.fixture
def listen() -> Iterator[Listen]:
    """Opens listeners, and closes them after the test."""
    with ExitStack() as stack:

        def open_them(text: str, features: Features = FULL, options: ListenerOptions = OPTIONS) -> list[Listener]:
            return [stack.enter_context(closing(it)) for it in open_listeners(Address(text), options, features)]

        yield open_them


@pytest.fixture(params=["127.0.0.1:0", "[::1]:0", "0.0.0.0:0", "[::]:0"])
def tcp(request: pytest.FixtureRequest, listen: Listen) -> Listener:
    [listener] = listen(request.param)
    return listener


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a name short enough for sockets."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        yield Path(name)


@pytest.fixture
def unix(listen: Listen, folder: Path) -> Listener:
    [listener] = listen(f"unix:{folder / 'socket'}")
    return listener


@pytest.fixture(params=["tcp", "unix"])
def any_kind(request: pytest.FixtureRequest, listen: Listen, folder: Path) -> Listener:
    [listener] = listen("127.0.0.1:0" if request.param == "tcp" else f"unix:{folder / 'socket'}")
    return listener


def endpoint(listener: Listener) -> tuple[socket.AddressFamily, str | tuple[str, int]]:
    """Where a client of this machine finds it."""
    address = Address(str(listener))
    if address.path:
        return socket.AF_UNIX, address.path
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)
    return socket.AF_INET6 if ":" in host else socket.AF_INET, (host, address.port)


def port_of(listener: Listener) -> int:
    return Address(str(listener)).port


@pytest.fixture
def connect() -> Iterator[Callable[..., socket.socket]]:
    """Makes clients that say their names, and closes them after the test."""
    with ExitStack() as stack:

        def come(listener: Listener, name: str = "client") -> socket.socket:
            family, place = endpoint(listener)
            client = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            client.settimeout(PATIENCE)
            client.connect(place)
            client.sendall(name.encode())
            return client

        yield come


Connect = Callable[..., socket.socket]


def accept(listener: Listener) -> tuple[socket.socket, Accepted]:
    accepted = listener.accept()
    return socket.socket(fileno=accepted.descriptor), accepted


def names_in_queue(listener: Listener) -> list[str]:
    """Accept to the end of the queue; who was in it."""
    names: list[str] = []
    while True:
        try:
            connection, _ = accept(listener)
        except BlockingIOError:
            return names
        with connection:
            names.append(connection.recv(100).decode())


def come_all(connect: Connect, listener: Listener, names: Sequence[str]) -> None:
    for name in names:
        connect(listener, name)


def beside(listener: Listener, options: ListenerOptions = OPTIONS) -> Listener:
    new = listener.open_beside(options)
    assert new is not None
    return new


def replaced(listener: Listener) -> Listener:
    """After a reset that is over: the old one is closed, the new one alone."""
    new = beside(listener)
    listener.close()
    new.stand_alone()
    return new


def may_bind(listener: Listener, *options: int) -> bool:
    """Whether somebody else may listen on the same port, with such options of sockets."""
    family, place = endpoint(listener)
    with socket.socket(family, socket.SOCK_STREAM) as other:
        for option in options:
            other.setsockopt(socket.SOL_SOCKET, option, 1)
        try:
            other.bind(place)
            other.listen()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True


# Opening.


def test_port_0_is_shown_as_the_port_that_the_system_chose(tcp: Listener) -> None:
    assert port_of(tcp) > 0
    assert tcp.address.port == 0


def test_a_bare_port_is_one_port_for_both_families(listen: Listen, connect: Connect) -> None:
    four, six = listen(":0")
    assert (four.family, six.family) == (Family.IPV4, Family.IPV6)
    assert port_of(four) == port_of(six) > 0
    come_all(connect, four, ["four"])
    come_all(connect, six, ["six"])
    assert (names_in_queue(four), names_in_queue(six)) == (["four"], ["six"])


def test_an_ipv6_listener_leaves_ipv4_clients_to_others(listen: Listen) -> None:
    [six] = listen("[::]:0")
    [four] = listen(f"0.0.0.0:{port_of(six)}")
    assert port_of(four) == port_of(six)


def test_a_port_that_is_taken_is_told_with_who_has_it(listen: Listen, tcp: Listener) -> None:
    with pytest.raises(SystemRefused, match=rf"EADDRINUSE .*\(pid {os.getpid()}\) listens there"):
        listen(str(tcp))


def test_an_address_of_another_machine_is_told(listen: Listen) -> None:
    with pytest.raises(SystemRefused, match="no interface of this machine has that address"):
        listen("192.0.2.1:0")


def test_if_a_bare_port_is_taken_in_one_family_neither_is_listened_on(listen: Listen) -> None:
    [six] = listen("[::]:0")
    with pytest.raises(SystemRefused):
        listen(f":{port_of(six)}")
    assert listen(f"0.0.0.0:{port_of(six)}")


def test_options_are_those_of_the_connections(listen: Listen, connect: Connect) -> None:
    [listener] = listen("127.0.0.1:0", options=ListenerOptions(10, keepalive=True, nodelay=True))
    changed = ListenerOptions(10)

    def options_of_a_connection(to: Listener) -> tuple[bool, bool]:
        connect(to)
        connection, _ = accept(to)
        with connection:
            keepalive = connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            return bool(keepalive), bool(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    assert options_of_a_connection(listener) == (True, True)
    listener.apply(changed)
    assert options_of_a_connection(listener) == (False, False)
    with closing(beside(listener, ListenerOptions(10, keepalive=True))) as new:
        assert options_of_a_connection(new) == (True, False)


def test_new_options_do_not_touch_those_who_wait(any_kind: Listener, connect: Connect) -> None:
    come_all(connect, any_kind, ["first", "second"])
    any_kind.apply(ListenerOptions(backlog=1))
    assert names_in_queue(any_kind) == ["first", "second"]


# Accepting.


@pytest.mark.parametrize("features", [FULL, PORTABLE], ids=["full", "portable"])
@pytest.mark.parametrize(
    ("text", "family", "local"),
    [
        ("127.0.0.1:0", Family.IPV4, "127.0.0.1"),
        ("0.0.0.0:0", Family.IPV4, "127.0.0.1"),
        ("[::1]:0", Family.IPV6, "::1"),
        ("[::]:0", Family.IPV6, "::1"),
    ],
)
def test_an_accepted_connection_is_told_with_both_its_ends(
    text: str, family: Family, local: str, features: Features, listen: Listen, connect: Connect
) -> None:
    [listener] = listen(text, features)
    client = connect(listener)
    connection, accepted = accept(listener)
    with connection:
        told = accepted.endpoints
        assert (told.family, told.local_ip, told.local_port) == (family, local, port_of(listener))
        assert (told.remote_ip, told.remote_port) == client.getsockname()[:2]
        assert accepted.credentials is None


@pytest.mark.parametrize("features", [FULL, PORTABLE], ids=["full", "portable"])
@pytest.mark.parametrize("text", ["127.0.0.1:0", "unix:{folder}/socket"])
def test_an_accepted_connection_blocks_and_closes_on_exec(
    text: str, features: Features, listen: Listen, connect: Connect, folder: Path
) -> None:
    [listener] = listen(text.format(folder=folder), features)
    connect(listener)
    connection, accepted = accept(listener)
    with connection:
        assert os.get_blocking(accepted.descriptor)
        assert not os.get_inheritable(accepted.descriptor)


def test_who_is_at_the_other_end_of_a_unix_socket_is_told(unix: Listener, connect: Connect) -> None:
    connect(unix)
    connection, accepted = accept(unix)
    with connection:
        assert accepted.credentials == PeerCredentials(os.getpid(), os.getuid(), os.getgid())
        assert (accepted.endpoints.local_ip, accepted.endpoints.remote_ip) == (unix.address.path, "")


def test_a_client_with_a_path_of_its_own_is_told_by_it(unix: Listener, folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.bind(str(folder / "client"))
        client.connect(unix.address.path)
        connection, accepted = accept(unix)
        connection.close()
        assert accepted.endpoints.remote_ip == str(folder / "client")


def test_how_long_a_client_was_queued_is_known_where_the_system_tells(listen: Listen, connect: Connect) -> None:
    for features, known in ((FULL, FULL.tcp_info), (PORTABLE, False)):
        [listener] = listen("127.0.0.1:0", features)
        connect(listener)
        connection, accepted = accept(listener)
        with connection:
            assert (accepted.queued is not None) is known
            assert accepted.queued is None or 0 <= accepted.queued < PATIENCE


def test_an_empty_queue_is_told_at_once(any_kind: Listener) -> None:
    with pytest.raises(BlockingIOError):
        any_kind.accept()


# A reset.


@only_with_steering
def test_a_reset_leaves_the_queue_to_the_old_listener_and_sends_new_clients_to_the_new_one(
    tcp: Listener, connect: Connect
) -> None:
    early, late = [f"early {n}" for n in range(20)], [f"late {n}" for n in range(20)]
    come_all(connect, tcp, early)
    with closing(beside(tcp)) as new:
        come_all(connect, tcp, late)
        assert str(new) == str(tcp)
        assert (names_in_queue(tcp), names_in_queue(new)) == (early, late)


@only_with_steering
def test_after_many_resets_clients_still_come_to_the_newest_listener(tcp: Listener, connect: Connect) -> None:
    listener = tcp
    for n in range(10):
        come_all(connect, listener, [f"early {n}"])
        new = beside(listener)
        come_all(connect, new, [f"late {n}"])
        assert names_in_queue(listener) == [f"early {n}"]
        listener.close()
        new.stand_alone()
        assert names_in_queue(new) == [f"late {n}"]
        listener = new
    come_all(connect, listener, ["last"])
    assert names_in_queue(listener) == ["last"]
    listener.close()


@only_with_steering
def test_a_reset_that_the_system_refuses_leaves_the_listener_as_it_was(tcp: Listener, connect: Connect) -> None:
    with no_descriptor_free(), pytest.raises(OSError, match="Too many open files"):
        tcp.open_beside(OPTIONS)
    come_all(connect, tcp, ["client"])
    assert names_in_queue(tcp) == ["client"]
    assert not may_bind(tcp, socket.SO_REUSEPORT)


@only_with_steering
def test_nobody_else_may_bind_the_port_before_a_reset(tcp: Listener) -> None:
    assert not may_bind(tcp)
    assert not may_bind(tcp, socket.SO_REUSEADDR)
    assert not may_bind(tcp, socket.SO_REUSEPORT)
    assert not may_bind(tcp, socket.SO_REUSEADDR, socket.SO_REUSEPORT)


@only_with_steering
def test_nobody_else_may_bind_the_port_after_a_reset(tcp: Listener) -> None:
    with closing(replaced(tcp)) as new:
        assert not may_bind(new)
        assert not may_bind(new, socket.SO_REUSEADDR)
        assert not may_bind(new, socket.SO_REUSEPORT)
        assert not may_bind(new, socket.SO_REUSEADDR, socket.SO_REUSEPORT)


@only_with_steering
@pytest.mark.parametrize("closed", ["by the client", "by the server", "not yet"])
def test_connections_of_before_and_after_a_reset_do_not_keep_a_server_from_starting_again(
    closed: str, tcp: Listener, listen: Listen, connect: Connect
) -> None:
    clients, connections = [connect(tcp)], [accept(tcp)[0]]
    with closing(replaced(tcp)) as new:
        clients.append(connect(new))
        connections.append(accept(new)[0])
        text = str(new)
    for end in {"by the client": [*clients, *connections], "by the server": [*connections, *clients]}.get(closed, []):
        end.close()
    assert listen(text)
    for connection in connections:
        connection.close()


def test_where_clients_cannot_be_steered_a_reset_closes_and_opens_the_same_port(
    listen: Listen, connect: Connect
) -> None:
    [listener] = listen("127.0.0.1:0", PORTABLE)
    place = str(listener)
    assert listener.open_beside(OPTIONS) is None
    with closing(listener.open_again(OPTIONS)) as new:
        assert str(new) == place
        come_all(connect, new, ["client"])
        assert names_in_queue(new) == ["client"]


# A reset of a Unix socket.


def test_a_unix_socket_is_replaced_without_losing_those_who_wait(unix: Listener, connect: Connect) -> None:
    come_all(connect, unix, ["early"])
    with closing(beside(unix)) as new:
        come_all(connect, unix, ["late"])
        assert (names_in_queue(unix), names_in_queue(new)) == (["early"], ["late"])
        unix.close()
        come_all(connect, new, ["later"])
        connection, accepted = accept(new)
        connection.close()
        assert accepted.endpoints.local_ip == unix.address.path
        assert str(new) == str(unix)


def test_a_unix_socket_that_is_replaced_keeps_its_rights_and_leaves_no_other_file(unix: Listener, folder: Path) -> None:
    os.chmod(unix.address.path, 0o640)
    with closing(beside(unix)):
        assert stat.S_IMODE(os.stat(unix.address.path).st_mode) == 0o640
        assert [entry.name for entry in folder.iterdir()] == ["socket"]


def test_a_unix_socket_that_is_replaced_keeps_its_owner(unix: Listener) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(unix.address.path, 1234, 5678)
    with closing(beside(unix)):
        found = os.stat(unix.address.path)
        assert (found.st_uid, found.st_gid) == (1234, 5678)


def test_a_unix_socket_with_the_longest_name_can_be_replaced_too(
    listen: Listen, connect: Connect, folder: Path
) -> None:
    path = f"{folder}/".ljust(LONGEST_PATH, "s")
    [listener] = listen(f"unix:{path}")
    with closing(beside(listener)) as new:
        come_all(connect, new, ["client"])
        assert names_in_queue(new) == ["client"]


def test_a_name_too_long_for_a_unix_socket_is_told(listen: Listen, folder: Path) -> None:
    with pytest.raises(ValueError, match="at most 107 bytes"):
        listen(f"unix:{folder}/".ljust(LONGEST_PATH + 100, "s"))


def test_the_socket_of_a_dead_server_is_replaced(listen: Listen, connect: Connect, folder: Path) -> None:
    [dead] = listen(f"unix:{folder / 'socket'}")
    dead.close()
    [listener] = listen(f"unix:{folder / 'socket'}")
    come_all(connect, listener, ["client"])
    assert names_in_queue(listener) == ["client"]


def test_the_socket_of_a_living_server_is_not_touched(unix: Listener, listen: Listen, connect: Connect) -> None:
    with pytest.raises(SystemRefused, match="EADDRINUSE"):
        listen(str(unix))
    come_all(connect, unix, ["client"])
    assert "client" in names_in_queue(unix)


def test_a_file_that_is_no_socket_is_not_touched(listen: Listen, folder: Path) -> None:
    (folder / "socket").write_text("precious")
    with pytest.raises(SystemRefused, match="a regular file is there: expected a socket or nothing"):
        listen(f"unix:{folder / 'socket'}")
    assert (folder / "socket").read_text() == "precious"


# A planned end.


def begin_to_connect(listener: Listener) -> socket.socket:
    family, place = endpoint(listener)
    client = socket.socket(family, socket.SOCK_STREAM)
    client.setblocking(False)
    assert client.connect_ex(place) == errno.EINPROGRESS
    return client


@only_where_turned_away
def test_after_new_clients_are_turned_away_only_those_who_were_queued_are_accepted(
    tcp: Listener, connect: Connect
) -> None:
    come_all(connect, tcp, ["first", "second"])
    tcp.turn_away()
    with begin_to_connect(tcp):
        assert names_in_queue(tcp) == ["first", "second"]


@only_where_turned_away
def test_a_client_that_was_turned_away_is_refused(listen: Listen) -> None:
    [listener] = listen("127.0.0.1:0")
    listener.turn_away()
    with begin_to_connect(listener) as late:
        listener.close()
        # Its system sends the first packet again after a second, and finds the port closed.
        assert select.select([], [late], [], PATIENCE)[1] == [late]
        assert late.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED


@only_where_turned_away
@pytest.mark.parametrize("accepted", ["before", "after"])
def test_connections_go_on_after_new_clients_are_turned_away(accepted: str, tcp: Listener, connect: Connect) -> None:
    client = connect(tcp, "question")
    if accepted == "before":
        connection, _ = accept(tcp)
        tcp.turn_away()
    else:
        tcp.turn_away()
        connection, _ = accept(tcp)
    tcp.close()
    with connection:
        assert connection.recv(100) == b"question"
        connection.sendall(b"answer")
        assert client.recv(100) == b"answer"
        client.sendall(b"thanks")
        client.shutdown(socket.SHUT_WR)
        assert (connection.recv(100), connection.recv(100)) == (b"thanks", b"")


@only_where_turned_away
def test_a_new_server_may_listen_as_soon_as_the_old_one_has_emptied_its_queue(
    tcp: Listener, listen: Listen, connect: Connect
) -> None:
    come_all(connect, tcp, ["old client"])
    tcp.turn_away()
    assert names_in_queue(tcp) == ["old client"]
    tcp.close()
    [new] = listen(str(tcp))
    come_all(connect, new, ["new client"])
    assert names_in_queue(new) == ["new client"]


def test_a_unix_socket_that_turns_clients_away_is_not_found_any_more_and_its_queue_is_emptied(
    unix: Listener, connect: Connect
) -> None:
    come_all(connect, unix, ["first", "second"])
    unix.turn_away()
    with pytest.raises(FileNotFoundError):
        connect(unix)
    assert names_in_queue(unix) == ["first", "second"]


def test_a_unix_socket_that_somebody_else_has_put_in_the_place_is_left_there(
    unix: Listener, listen: Listen, connect: Connect, folder: Path
) -> None:
    [others] = listen(f"unix:{folder / 'others'}")
    os.rename(others.address.path, unix.address.path)
    unix.turn_away()
    come_all(connect, unix, ["client"])
    assert names_in_queue(others) == ["client"]


def test_a_unix_socket_that_was_replaced_leaves_the_place_to_its_successor(unix: Listener, connect: Connect) -> None:
    with closing(beside(unix)) as new:
        unix.turn_away()
        unix.close()
        come_all(connect, new, ["client"])
        assert names_in_queue(new) == ["client"]
        new.turn_away()
        assert not os.path.exists(unix.address.path)

"""What is left of a conversation whose spawner died before it told of it."""

import contextlib
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tcppar.mark import RLIMIT_LOCKS
from tcppar.net import processes
from tcppar.net.tcp_info import was_used

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells of it")


@contextmanager
def connected() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A server's end, and its client's."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
        listener.accept()[0] as server,
    ):
        yield server, client


Act = Callable[[socket.socket, socket.socket], object]


def _send_much(server: socket.socket, client: socket.socket) -> None:
    """The client's side has no room, so that a part of it is unsent."""
    server.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            server.send(bytes(65536))


def say(server: socket.socket, client: socket.socket) -> None:
    client.sendall(b"hello")


def end(server: socket.socket, client: socket.socket) -> None:
    client.shutdown(socket.SHUT_WR)


USES: dict[str, tuple[Act, ...]] = {
    "received": (say, lambda server, client: server.recv(2)),
    "received-all": (say, lambda server, client: server.recv(5)),
    "sent": (lambda server, client: server.send(b"x"),),
    "sent-much": (_send_much,),
    "shut-down": (lambda server, client: server.shutdown(socket.SHUT_WR),),
    "answered-after-the-end": (end, lambda server, client: server.send(b"x")),
}

NO_USES: dict[str, tuple[Act, ...]] = {
    "nothing": (),
    "unread": (say,),
    "looked-at": (say, lambda server, client: server.recv(5, socket.MSG_PEEK)),
    "the-clients-end": (end,),
    "unread-and-the-end": (say, end),
    "the-client-is-gone": (lambda server, client: client.close(),),
}


@pytest.mark.parametrize("acts", USES.values(), ids=USES)
def test_a_conversation_leaves_traces(acts: tuple[Act, ...]) -> None:
    with connected() as (server, client):
        for act in acts:
            act(server, client)
        assert was_used(server.fileno(), tcp_info=True)
        assert not was_used(server.fileno(), tcp_info=False)


@pytest.mark.parametrize("acts", NO_USES.values(), ids=NO_USES)
def test_what_a_client_does_alone_is_no_conversation(acts: tuple[Act, ...]) -> None:
    with connected() as (server, client):
        for act in acts:
            act(server, client)
        assert not was_used(server.fileno(), tcp_info=True)


def test_unix_sockets_show_nothing() -> None:
    one, other = socket.socketpair()
    with one, other:
        one.send(b"x")
        assert not was_used(one.fileno(), tcp_info=True)


def test_who_has_ended_keeps_its_mark_until_it_is_waited_for() -> None:
    pid = os.fork()
    if pid == 0:
        resource.setrlimit(RLIMIT_LOCKS, (12345, resource.getrlimit(RLIMIT_LOCKS)[1]))
        os._exit(0)
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        [child] = [process for process in processes.children_of({os.getpid()}) if process.pid == pid]
        assert not child.lives
        assert processes.mark_of(pid) == 12345
    finally:
        os.waitpid(pid, 0)
    assert processes.mark_of(pid) is None


# The parent's child ends, then the parent is killed: the one who is waiting finds the parent first.
_ORPHAN = """
import os, signal
from tcppar.net import platform
platform.become_subreaper()
parent = os.fork()
if parent == 0:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    os.kill(os.getpid(), signal.SIGKILL)
first, second = os.wait4(-1, 0)[0], os.wait4(-1, 0)[0]
print(first == parent, second != parent)
"""


def test_a_spawner_is_reaped_before_those_that_it_leaves() -> None:
    for _ in range(20):
        ran = subprocess.run([sys.executable, "-c", _ORPHAN], capture_output=True, text=True, check=True)
        assert ran.stdout == "True True\n"

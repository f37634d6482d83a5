"""What a child gives to another user's process, to have it ended in its own place."""

import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tcppar.testing.subject import found_first
from tests.conftest import unavailable
from tests.hostile.attacker.channel import TAKEN, framed, packed
from tests.hostile.services import KILL, LIFETIME, package, users
from tests.support import config
from tests.support.server import Server, read_line, stat_fields, wait_until

_LONGEST = 30

# A daemon that takes whatever it is sent, and keeps it. It has lost its parent: the server has inherited it.
_TAKES_ALL = f"""
import os, signal, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o777)
listener.listen()
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
signal.alarm({_LONGEST})
print(os.getpid(), flush=True)
os.close(0), os.close(1)
kept = []
while True:
    kept.append(socket.recv_fds(listener.accept()[0], 100, 8))
"""

_GIVES = f"""
import socket, sys, time
to = socket.socket(socket.AF_UNIX)
to.connect(sys.argv[1])
socket.send_fds(to, [b"x"], [0])
print("given", flush=True)
time.sleep({_LONGEST})
"""


# A handler's module. It leaves a process that has the spawner's channel, stops the spawner, answers an offer in its
# place, naming another one's process, and kills it.
_LIES = """
import os, select, signal, socket, time
words = {words!r}
if os.fork() == 0:
    spawner = os.getppid()
    channel = socket.socket(fileno=3)
    while os.getppid() == spawner and not os.path.exists(words):
        time.sleep(0.01)
    while os.getppid() == spawner:
        os.kill(spawner, signal.SIGSTOP)
        if select.select([channel], [], [], 0.005)[0]:
            channel.sendall(open(words, "rb").read())
            os.kill(spawner, signal.SIGKILL)
            break
    os._exit(0)

def handle(conn):
    conn.write(b"served")
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where both users can go, and the one whose daemon it is can make a socket."""
    path = Path(tempfile.mkdtemp(prefix="tcppar-hostile-"))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


def test_an_orphan_that_another_users_spawner_names_is_still_its_own_connections(folder: Path) -> None:
    """Its end is recorded of that one."""
    if (names := users()) is None:
        unavailable("only root serves as two users")
    words, handler = folder / "words", folder / "handler.py"
    handler.write_text(_LIES.format(words=str(words)))
    services = {
        "attacker": {"listen": ["127.0.0.1:0"], "user": names[0], "handler": f"{handler}:handle"},
        "other": {"listen": ["127.0.0.1:0"], "user": names[1], "command": ["sh", "-c", "echo $$; exec cat"]},
    }
    config.write(file := folder / "tcppar.toml", services)
    with Server("-c", file, environment=found_first(package(folder))) as server:
        server.wait_for_event("listening", 2)
        with conversation(server, "other") as client:
            orphan = int(read_line(client))
            os.kill(int(stat_fields(orphan)[1]), signal.SIGKILL)
            server.wait_for_event("spawner-died", 1)
            whole = words.with_name("whole")
            whole.write_bytes(framed(packed([[TAKEN, 2, orphan, 0.0]])))
            whole.rename(words)
            [spawner] = [record["pid"] for record in server.events("spawner") if record["service"] == "attacker"]
            wait_until(lambda: stat_fields(spawner)[0] == "T")  # the offer is to come to one that is stopped
            with conversation(server, "attacker"):
                server.wait_for_event("spawner-died", 2)
        server.wait_for(lambda record: record["event"] == "end" and record["service"] == "other", patience=3)


def is_alive(pid: int) -> bool:
    fields = stat_fields(pid)
    return bool(fields) and fields[0] != "Z"


def conversation(server: Server, service: str) -> socket.socket:
    return socket.create_connection(server.address_of(service), timeout=5)


def test_another_users_process_that_was_sent_a_connection_is_not_ended_with_it(folder: Path) -> None:
    if (names := users()) is None:
        unavailable("only root serves as two users")
    attacker, other = names
    python = [os.path.realpath(sys.executable), "-I", "-S", "-c"]
    meeting = folder / "meeting"  # the other one may be closed to them, when the package is copied into it
    meeting.mkdir()
    meeting.chmod(0o777)
    both = {"listen": ["127.0.0.1:0"], "kill_timeout": KILL}
    services = {
        "attacker": both
        | {"user": attacker, "max_lifetime": LIFETIME, "command": [*python, _GIVES, f"{meeting}/socket"]},
        "other": both | {"user": other, "command": [*python, _TAKES_ALL, f"{meeting}/socket"]},
    }
    config.write(file := folder / "tcppar.toml", services)
    with Server("-c", file, environment=found_first(package(folder))) as server:
        server.wait_for_event("listening", 2)
        with conversation(server, "other") as client:
            daemon = int(read_line(client))
        try:
            with conversation(server, "attacker") as client:
                assert read_line(client) == "given"
                server.wait_for(lambda record: record["event"] == "end" and record["service"] == "attacker")
            time.sleep(2 * KILL)
            assert is_alive(daemon)
        finally:
            os.kill(daemon, signal.SIGKILL)

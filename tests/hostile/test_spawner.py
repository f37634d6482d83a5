"""What a spawner reports that it must not. A handler's module runs in it, and so can whatever that starts."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from tcppar.testing.processes import wait_until
from tests.conftest import tool
from tests.hostile.attacker.channel import ENDED, TAKEN, framed, packed
from tests.support.command import Serve
from tests.support.server import Server

_MANY = 2000

# It leaves a process that has the spawner's channel, and says there what a file tells it to, in one piece.
_HANDLER = """
import os, socket, time
if os.fork() == 0:
    spawner = os.getppid()
    while os.getppid() == spawner and not os.path.exists({words!r}):
        time.sleep(0.01)
    if os.getppid() == spawner:
        socket.socket(fileno=3).sendall(open({words!r}, "rb").read())
    os._exit(0)

def handle(conn):
    conn.write(b"served")
"""


@pytest.fixture
def words(tmp_path: Path) -> Path:
    """What is said, as soon as it is there."""
    return tmp_path / "words"


@pytest.fixture
def server(serve: Serve, tmp_path: Path, words: Path) -> Server:
    (file := tmp_path / "handler.py").write_text(_HANDLER.format(words=str(words)))
    return serve("127.0.0.1:0", "--handler", f"{file}:handle", "--mode", "pool", "--workers", "2")


def say(words: Path, *reports: Sequence[object]) -> None:
    (whole := words.with_name("whole")).write_bytes(framed(packed(list(reports))))
    whole.rename(words)


def goes_on(server: Server) -> bool:
    return server.exchange(b"") == b"served"


def test_that_a_worker_is_made_is_told_once(server: Server, words: Path) -> None:
    """Each time is a record: a hundred thousand in one frame held everybody up, and pushed others' records out."""
    worker = server.wait_for_event("worker", 2)[0]["pid"]
    say(words, *([[TAKEN, -1, worker, 0.0]] * _MANY))
    [given_up] = server.wait_for_event("given-up")
    assert given_up["role"] == "spawner"
    assert sum(record["pid"] == worker for record in server.events("worker")) == 1
    words.unlink()
    wait_until(lambda: goes_on(server))


def test_of_a_worker_that_is_not_known_any_more_no_more_is_told_than_there_can_be(server: Server, words: Path) -> None:
    server.wait_for_event("worker", 2)
    say(words, *([[ENDED, -1, 0, 0.0, None]] * _MANY))
    [given_up] = server.wait_for_event("given-up")
    assert given_up["role"] == "spawner"
    words.unlink()
    wait_until(lambda: goes_on(server))


# It takes from its spawner the right to give marks (RLIMIT_LOCKS), which any process of its user's can.
_TAKER = """
import os, resource
def take():
    resource.prlimit(os.getppid(), 10, (0, 0))
def handle(conn):
    take()
    conn.write(b"served")
"""


def _ordinary() -> list[str]:
    """What lets even root raise no limit, as no other user can."""
    return [tool("setpriv"), "--bounding-set=-sys_resource", "--inh-caps=-sys_resource"] if os.geteuid() == 0 else []


@pytest.mark.parametrize("mode", ["program", "limited-program", "fork", "pool"])
def test_a_spawner_that_can_give_no_marks_serves_on(serve: Serve, tmp_path: Path, mode: str) -> None:
    """Whoever may signal it may limit it; no client is refused for it."""
    (file := tmp_path / "handler.py").write_text(_TAKER)
    program = [sys.executable, "-c", f"{_TAKER}\ntake()\nprint('served', end='')"]
    if mode in ("fork", "pool"):
        server = serve("127.0.0.1:0", "--handler", f"{file}:handle", "--mode", mode, wrapper=_ordinary())
    else:
        limits = ["--rlimit", "core=0"] if mode == "limited-program" else []
        server = serve("127.0.0.1:0", *limits, "--", *program, wrapper=_ordinary())
    assert [server.exchange(b"") for _ in range(4)] == [b"served"] * 4
    assert server.events("refused") + server.events("spawner-died") == []


def test_what_a_spawner_keeps_ready_outlives_a_connection(serve: Serve, tmp_path: Path) -> None:
    """Children of its that have no connection are looked at when one is ended, and are nobody's."""
    (file := tmp_path / "handler.py").write_text("def handle(conn):\n    conn.write(b'x')\n    conn.read()\n")
    server = serve("127.0.0.1:0", "--handler", f"{file}:handle", "--max-lifetime", "0.3", "--kill-timeout", "0.1")
    [spawner] = server.wait_for_event("spawner")
    with server.connect() as client:
        client.recv(1)
        ready = set(_children_of(spawner["pid"]))
        server.wait_for_event("end")
        with server.connect() as another:
            another.recv(1)
            server.wait_for_event("end", 2)
    served = {record["pid"] for record in server.events("end")}
    assert ready - served <= set(_children_of(spawner["pid"]))


def _children_of(pid: int) -> list[int]:
    return [process.pid for process in psutil.Process(pid).children()]

"""What a handler's process finds of the time before the fork, and who goes on after a fork of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tcppar.spawner import zygote
from tests.support.command import Serve
from tests.support.handlers import Source, next_reload, said_by
from tests.support.server import Server

only_full = pytest.mark.parametrize("serve", ["full"], indirect=True)


@pytest.fixture(params=["fork", "pool"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def serve_text(serve: Serve, folder: Path, text: str, *more: str, mode: str = "fork") -> Server:
    (folder / "app.py").write_text(text)
    workers = ["--workers", "1"] if mode == "pool" else []
    return serve("127.0.0.1:0", "--handler", f"{folder}/app.py:handle", "--mode", mode, *workers, *more)


def lines_of(server: Server) -> list[str]:
    assert server.stop() == 0
    return [record["line"] for record in server.events("stderr")]


def test_the_time_zone_that_is_set_is_in_force(serve: Serve, mode: str, tmp_path: Path) -> None:
    text = "import time\ndef handle(conn): conn.write(f'{time.tzname[0]} {time.localtime(0).tm_hour}'.encode())\n"
    server = serve_text(serve, tmp_path, text, "--environment", "TZ=XYZ-5", mode=mode)
    assert said_by(server) == "XYZ 5"


def test_what_was_written_before_the_fork_is_written_once(serve: Serve, mode: str, tmp_path: Path) -> None:
    text = (
        "import ctypes, sys\nprint('from the import', end='')\n"
        "from_c = ctypes.CDLL(None)\nfrom_c.fopen.restype = ctypes.c_void_p\n"
        f"file = ctypes.c_void_p(from_c.fopen({os.fsencode(tmp_path / 'of C')!r}, b'a'))\n"
        "from_c.fputs(b'begin\\n', file)\n"
        f"log = open({str(tmp_path / 'log')!r}, 'a')\nlog.write('begin\\n')\n"
        "def handle(conn):\n    from_c.fflush(None)\n    log.write('one\\n')\n    log.flush()\n"
        "    print('said')\n    conn.write(b'done')\n"
    )
    server = serve_text(serve, tmp_path, text, mode=mode)
    for _ in range(3):
        assert said_by(server) == "done"
    server.wait_for_event("end", 3)
    assert (tmp_path / "log").read_text() == "begin\none\none\none\n"
    if not server.portable and zygote.AVAILABLE:
        assert (tmp_path / "of C").read_text() == "begin\n"
    assert sorted(lines_of(server)) == ["from the import", "said", "said", "said"]


# Another thread holds the lock of a log at the fork: who has it in the child would wait for a thread that is not there.
_FORKING = """
import logging, os, threading
out = logging.StreamHandler()
logging.getLogger().addHandler(out)

def hold(held, done):
    with out.lock:
        held.set()
        done.wait()

def handle(conn):
    for _ in range(2):
        held, done = threading.Event(), threading.Event()
        thread = threading.Thread(target=hold, args=(held, done))
        thread.start()
        held.wait()
        pid = os.fork()
        if pid == 0:
            logging.warning("in the child")
            os._exit(threading.active_count())
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        done.set()
        thread.join()
        logging.warning("in the parent")
        conn.write(b"%d" % code)
"""


def test_what_a_handler_forks_finds_locks_that_nobody_holds(serve: Serve, mode: str, tmp_path: Path) -> None:
    server = serve_text(serve, tmp_path, _FORKING, mode=mode)
    assert said_by(server) == "11"
    assert lines_of(server) == ["in the child", "in the parent"] * 2


def test_a_child_of_the_handlers_in_which_it_returns_ends_there(serve: Serve, mode: str, tmp_path: Path) -> None:
    text = (
        "import os\n"
        "def handle(conn):\n"
        "    way = conn.read_until()\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        if way == b'raise\\n': raise ValueError('in the child')\n"
        "        return\n"
        "    conn.write(b'%d %d' % (os.getpid(), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))\n"
    )
    server = serve_text(serve, tmp_path, text, mode=mode)
    pids: list[int] = []
    for way, code in (("return", 0), ("raise", 1), ("return", 0)):
        said, exited = said_by(server, f"{way}\n".encode()).split()
        assert int(exited) == code
        pids.append(int(said))
    assert [(end["pid"], end["exit"]) for end in server.wait_for_event("end", 3)] == [(pid, 0) for pid in pids]
    assert server.stop() == 0
    assert (len(server.events("end")), server.events("given-up")) == (3, [])


WAYS = {
    "text": ("import sys\ndef handle(conn): sys.exit('the reason\\nin two lines')\n", ["the reason", "in two lines"]),
    "no stderr": ("import sys\ndef handle(conn):\n    sys.stderr = None\n    1 / 0\n", ["ZeroDivisionError"]),
    "odd stderr": ("import sys\ndef handle(conn):\n    sys.stderr = object()\n    1 / 0\n", ["ZeroDivisionError"]),
    "unspeakable": (
        "import tcppar\nclass Odd(tcppar.PeerGone):\n    def __str__(self): raise ValueError\n"
        "def handle(conn): raise Odd('x')\n",
        ["is gone: (a Odd that cannot be shown)"],
    ),
    "unspeakable exit": (
        "class Odd:\n    def __str__(self): raise ValueError\ndef handle(conn): raise SystemExit(Odd())\n",
        ["(a Odd that cannot be shown)"],
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_reason_of_an_end_is_told_whatever_the_handler_has_done(
    serve: Serve, mode: str, tmp_path: Path, way: str
) -> None:
    text, wanted = WAYS[way]
    server = serve_text(serve, tmp_path, text, mode=mode)
    assert said_by(server) == ""
    assert server.wait_for_event("end")[0]["exit"] == 1
    said = "\n".join(lines_of(server))
    assert [words for words in wanted if words not in said] == []
    assert "could not start" not in said


# Sources that change.


def version(text: str) -> str:
    return f"def handle(conn): conn.write({text!r}.encode())\n"


@only_full
def test_a_second_save_within_a_second_is_loaded_though_its_size_is_the_same(serve: Serve, tmp_path: Path) -> None:
    source = Source(tmp_path / "changing.py", version("one"))
    server = serve("127.0.0.1:0", "--handler", "changing:handle", "--directory", tmp_path, "--reload")
    assert said_by(server) == "one"
    moment = int(source.file.stat().st_mtime)
    for number, text in enumerate(["two", "six"]):
        beside = tmp_path / "beside.new"
        beside.write_text(version(text))
        os.utime(beside, ns=(0, moment * 10**9 + number + 1))
        beside.replace(source.file)
        assert next_reload(server, number)["event"] == "reloaded"
        assert said_by(server) == text


# Programs whose standard descriptors are closed.

CLOSED = """
import os, socket, sys
sys.path[:0] = {path!r}
import tcppar
def handle(conn): conn.write(b"served")
if __name__ == "__main__":
    out = os.dup(1)
    for number in (0, 1, 2):
        if number in {closed!r}:
            os.close(number)
    with tcppar.Server("127.0.0.1:0", handler=handle, drain_timeout=0) as server:
        with socket.create_connection(server.addresses[0]) as client:
            os.write(out, client.recv(100))
"""


@pytest.mark.parametrize("closed", [(0,), (0, 1, 2), (2,), (1, 2)])
def test_a_program_without_standard_descriptors_can_have_a_server(tmp_path: Path, closed: tuple[int, ...]) -> None:
    file = tmp_path / "program.py"
    file.write_text(CLOSED.format(path=[], closed=closed))
    done = subprocess.run([sys.executable, file], stdout=subprocess.PIPE, timeout=30, check=False)
    assert (done.stdout, done.returncode) == (b"served", 0)


# Generators of random numbers, with a numpy that is made up: the real one is in test_numpy.py.

NUMPY = """
import itertools
_numbers = itertools.count(1 << 100)
class SeedSequence:
    def __init__(self, entropy): self.entropy = entropy
class BitGenerator:
    def __init__(self, seed=None):
        import os
        self.state = seed if seed is not None else int.from_bytes(os.urandom(16), "big") | 1 << 127
        self.seed_seq = SeedSequence(self.state)
def seed(): pass
"""


def test_generators_that_the_system_has_seeded_are_seeded_anew(serve: Serve, tmp_path: Path) -> None:
    package = tmp_path / "numpy"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "random.py").write_text(NUMPY)
    text = (
        "import numpy.random\nfresh, chosen = numpy.random.BitGenerator(), numpy.random.BitGenerator(42)\n"
        "def handle(conn): conn.write(f'{fresh.state} {chosen.state}'.encode())\n"
    )
    server = serve_text(serve, tmp_path, text)
    told = [said_by(server).split() for _ in range(4)]
    assert len({fresh for fresh, _ in told}) == 4
    assert {chosen for _, chosen in told} == {"42"}


def test_the_name_of_the_handler_is_the_program_that_it_sees(serve: Serve, mode: str, tmp_path: Path) -> None:
    text = "import sys\nargv = sys.argv\ndef handle(conn): conn.write(repr(argv).encode())\n"
    server = serve_text(serve, tmp_path, text, mode=mode)
    assert said_by(server) == repr([f"{tmp_path}/app.py"])

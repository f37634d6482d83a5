"""Python handlers: how they are found and loaded, what their processes get, and how their conversations end."""

import json
import os
import random
import signal
import socket
import struct
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import HERE
from tests.support import command
from tests.support.command import Serve
from tests.support.handlers import (
    HANDLERS,
    Source,
    answers,
    ask_for_reload,
    children_of,
    clients_that_keep_coming,
    end_of,
    is_over,
    next_reload,
    peer_of,
    reloads,
    said_by,
    spawner_of,
    start,
)
from tests.support.server import (
    PATIENCE,
    Record,
    Server,
    descendants,
    descriptors,
    read_all,
    read_line,
    stat_fields,
    wait_until,
)

CLIENTS = 64
CONNECTIONS = 5_000
# How long processes are killed under load.
SOAK_SECONDS = float(os.environ.get("TCPPAR_SOAK_SECONDS", "1.5"))
SOAK_CLIENTS = 8
SOAK_EXCHANGES = 20

# Where the profile makes no difference.
only_full = pytest.mark.parametrize("serve", ["full"], indirect=True)


@pytest.fixture(params=["fork", "pool"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Shared:
    """Servers in one profile and mode that several tests have, each made for the first of them."""

    def __init__(self, mode: str, *, portable: bool) -> None:
        self.mode = mode
        self._portable = portable
        self._servers: dict[str, Server] = {}

    def __call__(self, target: str) -> Server:
        if target not in self._servers:
            serve = partial(Server, portable=self._portable)
            self._servers[target] = start(serve, target, mode=self.mode)
        return self._servers[target]

    def end(self) -> None:
        for server in self._servers.values():
            server.process.kill()
            server.__exit__(None, None, None)


@pytest.fixture(scope="module", params=product(["full", "portable"], ["fork", "pool"]), ids="-".join)
def shared(request: pytest.FixtureRequest) -> Iterator[Shared]:
    profile, mode = request.param
    servers = Shared(mode, portable=profile == "portable")
    yield servers
    servers.end()


def stderr_records(server: Server, wanted: str, count: int = 1) -> list[Record]:
    """Lines with this in them that a process of the handler's has written."""
    return server.wait_for(lambda record: record["event"] == "stderr" and wanted in record["line"], count, patience=10)


# Kinds, and where they are found.


@pytest.mark.parametrize("kind", ["function", "coroutine", "RequestHandler"])
def test_each_kind_of_handler_serves_a_client(shared: Shared, kind: str) -> None:
    server = shared(f"kinds:{kind}")
    assert said_by(server, b"a\nb\n") == f"{kind} a\n{kind} b\n"
    (end,) = server.wait_for_event("end")
    assert (end["exit"], end["signal"], end["service"]) == (0, None, "kinds")
    assert server.noise == []


@pytest.mark.parametrize(
    "name",
    ["method", "greeter", "partial", "decorated", "wrapped_coroutine", "later_method", "later_object", "later_partial"],
)
def test_whatever_can_be_called_like_a_handler_is_one(name: str) -> None:
    with Server("127.0.0.1:0", "--handler", f"{HANDLERS}/disguised.py:{name}") as server:
        assert server.exchange(b"you\n") == b"hello you\n"


@only_full
def test_a_handler_is_found_by_its_file(serve: Serve, mode: str) -> None:
    server = serve("127.0.0.1:0", "--handler", f"{HANDLERS}/kinds.py:function", "--mode", mode)
    assert server.exchange(b"a\n") == b"function a\n"


@only_full
def test_a_relative_file_is_looked_for_in_the_servers_directory(serve: Serve) -> None:
    server = serve("127.0.0.1:0", "--handler", "./handlers/kinds.py:function", cwd=HERE)
    assert server.exchange(b"a\n") == b"function a\n"


@only_full
def test_a_relative_file_is_looked_for_in_the_setting_directory(serve: Serve) -> None:
    server = start(serve, "./kinds.py:function")
    assert server.exchange(b"a\n") == b"function a\n"


@only_full
def test_a_file_may_import_what_stands_beside_it(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("TEXT = b'from beside'\n")
    (tmp_path / "main-file.py").write_text("import beside\ndef handle(conn): conn.write(beside.TEXT)\n")
    server = serve("127.0.0.1:0", "--handler", f"{tmp_path}/main-file.py:handle")
    assert said_by(server) == "from beside"


@only_full
def test_modules_are_looked_for_in_the_servers_directory_by_default(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "here.py").write_text("def handle(conn): conn.write(b'here')\n")
    assert said_by(serve("127.0.0.1:0", "--handler", "here:handle", cwd=tmp_path)) == "here"


@only_full
def test_a_module_may_be_in_a_package_and_the_handler_in_a_class(serve: Serve, tmp_path: Path) -> None:
    package = tmp_path / "shop"
    package.mkdir()
    (package / "orders.py").write_text(
        "class Orders:\n    @staticmethod\n    def handle(conn): conn.write(__name__.encode())\n"
    )
    server = serve("127.0.0.1:0", "--handler", "shop.orders:Orders.handle", "--directory", tmp_path)
    assert said_by(server) == "shop.orders"


def test_what_is_preloaded_is_imported_once_and_before_the_handler(serve: Serve, mode: str, tmp_path: Path) -> None:
    (tmp_path / "early.py").write_text("import os\nprint('early', os.getpid())\nTEXT = b'early'\n")
    (tmp_path / "late.py").write_text(
        "import sys\nprint('late', 'early' in sys.modules)\n"
        "def handle(conn):\n    import early\n    conn.write(early.TEXT)\n"
    )
    options = ["--handler", "late:handle", "--directory", tmp_path, "--preload", "early", "--mode", mode]
    server = serve("127.0.0.1:0", *options)
    for _ in range(3):
        assert said_by(server) == "early"
    server.wait_for_event("end", 3)
    printed = [record["line"] for record in stderr_records(server, "", 2)]
    assert printed == [f"early {spawner_of(server)}", "late True"]


# What its process gets.


def test_in_mode_fork_every_connection_has_a_fresh_process(serve: Serve) -> None:
    server = start(serve, "counting:handle")
    told = [said_by(server).split() for _ in range(20)]
    assert len({pid for pid, _ in told}) == 20
    assert {count for _, count in told} == {"1"}
    assert {str(end["pid"]) for end in server.wait_for_event("end", 20)} == {pid for pid, _ in told}


def test_in_mode_pool_a_worker_is_used_again_and_keeps_its_state(serve: Serve) -> None:
    server = start(serve, "counting:handle", "--workers", "1", mode="pool")
    told = [said_by(server).split() for _ in range(20)]
    assert [count for _, count in told] == [str(number) for number in range(1, 21)]
    assert {pid for pid, _ in told} == {str(end["pid"]) for end in server.wait_for_event("end", 20)}
    assert len({pid for pid, _ in told}) == 1


def facts_of(server: Server) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(server.exchange(b""))
    return facts


@pytest.fixture
def facts(shared: Shared) -> dict[str, Any]:
    """What a handler's process finds."""
    return facts_of(shared("facts:handle"))


def test_processes_have_the_signals_of_a_fresh_python(facts: dict[str, Any]) -> None:
    assert facts["blocked"] == []
    assert facts["ignored"] == [signal.SIGPIPE, signal.SIGXFSZ]
    assert facts["caught"] == []
    assert facts["wakeup"] == -1


def test_a_process_leads_a_group_of_its_own(facts: dict[str, Any]) -> None:
    assert facts["group"] == facts["pid"]


def test_a_process_has_no_descriptor_of_its_makers(facts: dict[str, Any], shared: Shared) -> None:
    others = {int(number) for number in facts["descriptors"]} - {0, 1, 2, facts["socket"]}
    # A worker has its channel too.
    assert len(others) == (1 if shared.mode == "pool" else 0), facts["descriptors"]
    assert facts["descriptors"]["0"] == "/dev/null"
    assert facts["descriptors"]["1"] == facts["descriptors"]["2"]


def test_a_process_made_under_load_has_no_descriptor_of_its_makers_either(serve: Serve) -> None:
    # Children that were made together must not have each other's channels.
    server = start(serve, "facts:handle")
    with ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(20)]
        for client in clients:
            found = json.loads(read_all(client))
            assert sorted(map(int, found["descriptors"])) == sorted([0, 1, 2, found["socket"]])


def test_random_numbers_differ_between_processes(serve: Serve, mode: str) -> None:
    server = (
        start(serve, "facts:handle", "--workers", "4", mode=mode) if mode == "pool" else start(serve, "facts:handle")
    )
    with ExitStack() as stack:
        # Four at once, so that in mode pool they have four workers.
        clients = [stack.enter_context(server.connect()) for _ in range(4)]
        told = [json.loads(read_all(client))["random"] for client in clients]
    for numbers in zip(*told, strict=True):
        assert len(set(numbers)) == 4, told


def test_a_process_has_the_id_that_the_log_has(facts: dict[str, Any], shared: Shared) -> None:
    (end,) = shared("facts:handle").wait_for(lambda record: record["event"] == "end" and record["id"] == facts["id"])
    assert end["pid"] == facts["pid"]


def test_a_process_is_in_the_directory_that_is_set(facts: dict[str, Any]) -> None:
    assert facts["directory"] == str(HANDLERS)


@only_full
def test_a_process_has_the_environment_that_is_set(serve: Serve, mode: str) -> None:
    server = start(serve, "facts:handle", "--environment", "TCPPAR_TEST=yes", mode=mode)
    assert facts_of(server)["variable"] == "yes"


# What it prints.


def test_what_a_handler_prints_is_logged_at_once(serve: Serve, mode: str) -> None:
    server = start(serve, "printing:while_it_lasts", mode=mode)
    with server.connect() as client:
        client.sendall(b"first\n")
        known = read_line(client)
        # The connection is open still.
        records = stderr_records(server, "first", 2)
        assert answers(client, b"") is True
    assert {record["line"] for record in records} == {"printed first", "written first"}
    assert {record["id"] for record in records} == {known}


def test_what_a_handler_prints_briefly_has_its_connections_id(serve: Serve, mode: str) -> None:
    workers = ["--workers", "1"] if mode == "pool" else []
    server = start(serve, "printing:briefly", *workers, mode=mode)
    known = {f"printed {number}": said_by(server, f"{number}\n".encode()).strip() for number in range(5)}
    found = {record["line"]: record["id"] for record in stderr_records(server, "printed", 5)}
    assert found == known


def test_a_last_line_without_an_end_is_logged_with_its_connection(serve: Serve, mode: str) -> None:
    workers = ["--workers", "1"] if mode == "pool" else []
    server = start(serve, "printing:without_an_end", *workers, mode=mode)
    known = said_by(server, b"one\n").strip()
    (record,) = stderr_records(server, "one")
    assert (record["line"], record["id"]) == ("one", known)


# How its conversations end.

ENDS = {
    "raise": (1, None),
    "exit 3": (3, None),
    "exit with a text": (1, None),
    "_exit 4": (4, None),
    "kill": (None, "SIGKILL"),
    "interrupt": (None, "SIGINT"),
    "end": (0, None),
}


@pytest.mark.parametrize("way", ENDS)
def test_each_end_is_recorded_and_seen_by_its_client_alone(shared: Shared, way: str) -> None:
    server = shared("failing:handle")
    with server.connect() as client:
        client.sendall(f"{way}\n".encode())
        # An end in order, and no reset.
        assert read_all(client) == b"read\n"
        end = end_of(server, peer_of(client))
    assert (end["exit"], end["signal"]) == ENDS[way]
    with server.connect() as client:
        client.sendall(b"end\n")
        assert read_all(client) == b"read\n"
        assert end_of(server, peer_of(client))["exit"] == 0


@pytest.mark.parametrize("kind", ["handle", "coroutine"])
def test_a_handler_that_raises_leaves_a_traceback_with_its_connections_id(serve: Serve, mode: str, kind: str) -> None:
    server = start(serve, f"failing:{kind}", mode=mode)
    with server.connect() as client:
        client.sendall(b"raise\n")
        assert read_all(client) == b"read\n"
        end = end_of(server, peer_of(client))
        stderr_records(server, "LookupError: this is the reason")
        lines = [record["line"] for record in stderr_records(server, "")]
        assert lines[0] == f"handler failing:{kind} failed in connection {end['id']} from {peer_of(client)}"
        assert lines[1] == "Traceback (most recent call last):"
        assert any("failing.py" in line for line in lines)
        ids = {record["id"] for record in stderr_records(server, "")}
    assert ids == {end["id"]}
    assert end["exit"] == 1


def test_an_end_that_is_meant_is_logged_by_its_record_alone(serve: Serve, mode: str) -> None:
    server = start(serve, "failing:handle", mode=mode)
    for way in (b"exit 3\n", b"end\n"):
        assert server.exchange(way) == b"read\n"
    assert server.stop() == 0
    assert server.events("stderr") == []
    assert server.noise == []


def test_a_client_that_left_is_told_in_one_line(serve: Serve, mode: str) -> None:
    server = start(serve, "waiting:handle", mode=mode)
    with server.connect() as client:
        peer = peer_of(client)
        read_line(client)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end = end_of(server, peer)
    assert (end["exit"], end["signal"]) == (1, None)
    stderr_records(server, "is gone")
    assert server.stop() == 0
    (record,) = server.events("stderr")
    assert record["line"].startswith(f"handler waiting:handle: connection {end['id']}: {peer} is gone: ")


@pytest.mark.parametrize("kind", ["handle", "coroutine"])
def test_a_handler_may_start_programs_while_it_reads_and_writes(serve: Serve, mode: str, kind: str) -> None:
    server = start(serve, f"starting_programs:{kind}", mode=mode)
    with server.connect() as client, client.makefile("rb") as replies:
        for _ in range(5):
            client.sendall(b"0123456789\n")
            for _ in range(50_000):
                assert replies.readline() == b"0123456789\n"
            assert replies.readline() == b"[0, 7, 8, 9]\n"
        client.shutdown(socket.SHUT_WR)
        assert replies.read() == b""
        end = end_of(server, peer_of(client))
    assert (end["exit"], server.events("stderr")) == (0, [])


def test_a_lifetime_ends_the_process_of_the_connection(serve: Serve) -> None:
    server = start(serve, "waiting:handle", "--max-lifetime", "200ms")
    with server.connect() as client:
        read_line(client)
        assert client.recv(1) == b""
        end = end_of(server, peer_of(client))
    assert (end["signal"], end["ended_by"]) == ("SIGTERM", "max_lifetime")


def test_a_handler_that_ignores_sigterm_is_killed(serve: Serve, mode: str) -> None:
    limits = ["--max-lifetime", "200ms", "--kill-timeout", "100ms"]
    server = start(serve, "ignoring_sigterm:handle", *limits, mode=mode)
    with server.connect() as client:
        read_line(client)
        assert client.recv(1) == b""
        end = end_of(server, peer_of(client))
    assert (end["signal"], end["ended_by"]) == ("SIGKILL", "max_lifetime")


def test_children_of_a_killed_spawner_go_on_and_new_clients_are_served(serve: Serve) -> None:
    server = start(serve, "waiting:handle")
    before = descriptors(server.pid)
    with server.connect() as client:
        read_line(client)
        # The supervisor knows of the child when it has closed its copy; it reads the child's log.
        wait_until(lambda: descriptors(server.pid) == before + 1)
        os.kill(spawner_of(server), signal.SIGKILL)
        assert server.wait_for_event("spawner-died")[0]["children"] == 1
        assert answers(client)
        with server.connect() as second:
            read_line(second)
            assert answers(second)
        peer = peer_of(client)
    # How an orphan ended is not known where it does not become the supervisor's child.
    assert end_of(server, peer)["exit"] == (None if server.portable else 0)


@only_full
@pytest.mark.usefixtures("compiled_loop")
def test_spare_children_end_with_the_server(serve: Serve) -> None:
    server = start(serve, "waiting:handle")
    with server.connect() as client:
        read_line(client)
        wait_until(
            lambda: len(list(descendants(server.pid))) > 3
        )  # the spawner, the client's child, and two spare ones
        made = list(descendants(server.pid))
    assert server.stop() == 0
    wait_until(lambda: all(is_over(pid) for pid in made))


@only_full
@pytest.mark.usefixtures("compiled_loop")
def test_a_spare_child_that_somebody_kills_costs_nobody_anything(serve: Serve) -> None:
    server = start(serve, "counting:handle")
    wait_until(lambda: len(children_of(spawner_of(server))) > 1)
    spares = children_of(spawner_of(server))
    for pid in spares:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: all(is_over(pid) for pid in spares))
    assert [said_by(server).split()[1] for _ in range(10)] == ["1"] * 10
    assert {end["exit"] for end in server.wait_for_event("end", 10)} == {0}


# Starts that fail.

THREAD = (
    "import threading, time\nthreading.Thread(target=time.sleep, args=[60], name='the sleeper', daemon=True).start()\n"
)
HANDLE = "def handle(conn): pass\n"
PARTIAL = "from functools import partial\n"
REQUEST = "from socketserver import BaseRequestHandler\nclass Handle(BaseRequestHandler):\n"

MISTAKES: dict[str, tuple[dict[str, str], str, list[str]]] = {
    "syntax error": ({"m": "import os\ndef handle(conn:\n"}, "m:handle", ["SyntaxError", "m.py, line 2"]),
    "syntax error beyond it": ({"m": "import n\n", "n": "x = = 1\n"}, "m:handle", ["SyntaxError", "n.py, line 1"]),
    "error at import": ({"m": "\n1 / 0\n"}, "m:handle", ["ZeroDivisionError: division by zero", "m.py, line 2"]),
    "exit at import": ({"m": "import sys\nsys.exit('no')\n"}, "m:handle", ["SystemExit: no", "m.py, line 2"]),
    "missing module": ({}, "nowhere:handle", ["No module named 'nowhere'", "and in {folder} (directory, or"]),
    "missing module of a package": ({"p/__init__": ""}, "p.n:handle", ["No module named 'p.n'"]),
    "missing file": ({}, "./nowhere.py:handle", ["'./nowhere.py': no such file in {folder} (directory, or"]),
    "missing folder": ({}, "no/where.py:handle", ["'no/where.py': no such file in {folder} (directory, or"]),
    "missing file anywhere": ({}, "/no/where.py:handle", ["'/no/where.py': no such file"]),
    "missing module beyond it": ({"m": "import nowhere\n"}, "m:handle", ["No module named 'nowhere'", "m.py, line 1"]),
    "missing name": ({"m": HANDLE}, "m:handel", ["m.py has no 'handel'"]),
    "missing name of a package": ({"m/x": HANDLE}, "m:handle", ["has no 'handle'"]),
    "missing name of a built-in": ({}, "time:handle", ["time has no 'handle'"]),
    "no argument": ({"m": "def handle(): pass\n"}, "m:handle", ["it takes no arguments"]),
    "two arguments": ({"m": "def handle(conn, more): pass\n"}, "m:handle", ["it needs 2 arguments (conn, more)"]),
    "async, two arguments": ({"m": "async def handle(conn, more): pass\n"}, "m:handle", ["it needs 2 arguments"]),
    "an argument by name": (
        {"m": "def handle(conn, *, more): pass\n"},
        "m:handle",
        [
            "it needs the keyword-only argument 'more'",
            "expected a function or an async def that can be called with one",
        ],
    ),
    "none but by name": ({"m": "def handle(**more): pass\n"}, "m:handle", ["it takes no arguments"]),
    "two, and any number": (
        {"m": "def handle(conn, more, *rest): pass\n"},
        "m:handle",
        ["needs 2 arguments (conn, more)"],
    ),
    "partial of none": ({"m": f"{PARTIAL}handle = partial(lambda: 0, 1)\n"}, "m:handle", ["it takes no arguments"]),
    "partial, twice": (
        {"m": f"{PARTIAL}handle = partial(lambda conn: 0, conn=1)\n"},
        "m:handle",
        ["it gets the argument 'conn' twice"],
    ),
    "handle with an argument": (
        {"m": f"{REQUEST}    def handle(self, conn): pass\n"},
        "m:Handle",
        ["handle needs 2 arguments (self, conn): expected a method that can be called with self alone"],
    ),
    "a class of another's": (
        {"m": f"{REQUEST}    def __init__(self, conn): pass\n"},
        "m:Handle",
        ["__init__ takes 2 arguments (self, conn): expected one that can be called with a request, an address and a"],
    ),
    "not callable": ({"m": "handle = 3\n"}, "m:handle", ["3 cannot be called: expected a function or an"]),
    "a built-in without arguments": ({}, "os:getcwd", ["it is posix.getcwd, a function of Python itself"]),
    "a built-in with another": ({}, "os:chdir", ["it is posix.chdir, a function of Python itself"]),
    "a method of a built-in class": ({}, "builtins:str.upper", ["it is builtins.str.upper, a function of Python"]),
    "a cached function of none": (
        {"m": "import functools\n@functools.cache\ndef handle(): pass\n"},
        "m:handle",
        ["cannot be called with one argument"],
    ),
    "the class of socketserver": ({}, "socketserver:StreamRequestHandler", ["handle of socketserver's own classes"]),
    "an abstract class": (
        {
            "m": "from abc import ABC, abstractmethod\nfrom socketserver import BaseRequestHandler\n"
            "class C(BaseRequestHandler, ABC):\n"
            "    def handle(self): pass\n    @abstractmethod\n    def answer(self): ...\n"
        },
        "m:C",
        ["the class is abstract: it lacks answer"],
    ),
    "partial with a name that is not taken": (
        {"m": f"{PARTIAL}handle = partial(lambda conn: 0, other=2)\n"},
        "m:handle",
        ["it does not take the argument 'other', which functools.partial gives it"],
    ),
    "an object with a call of none": (
        {"m": "class C:\n    def __call__(self): pass\nhandle = C()\n"},
        "m:handle",
        ["it takes no arguments"],
    ),
    "a partial class that gets too much": (
        {"m": f"{PARTIAL}{REQUEST}    def handle(self): pass\nhandle = partial(Handle, 1)\n"},
        "m:handle",
        ["__init__ takes ", "expected one that can be called with a request"],
    ),
    "class without handle": ({"m": "class Handle: pass\n"}, "m:Handle", ["the class has no setup, handle and finish"]),
    "thread": ({"m": THREAD + HANDLE}, "m:handle", ["'the sleeper'", "by the handler's own module"]),
    "thread of a module": ({"m": "import n\n" + HANDLE, "n": THREAD}, "m:handle", ["'the sleeper'", "import of n."]),
    "thread beyond it": (
        {"m": "import n\n" + HANDLE, "n": "import o\n", "o": THREAD},
        "m:handle",
        ["'the sleeper'", "started in the import of o."],
    ),
    "thread of a package": (
        {"p/__init__": "from . import inner\n" + HANDLE, "p/inner": THREAD},
        "p:handle",
        ["'the sleeper'", "started in the import of", "inner"],
    ),
}


def write_modules(folder: Path, modules: dict[str, str]) -> None:
    for name, text in modules.items():
        file = folder / f"{name}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)


def refusal(folder: Path, target: str, *more: str) -> str:
    """The message with which a start fails, the only one that is no record."""
    options = ["--directory", str(folder), "--log-format", "json", *more]
    outcome = command.run("serve", "127.0.0.1:0", "--handler", target, *options)
    assert outcome.returncode == 100, outcome.stderr
    lines = [line for line in outcome.stderr.splitlines() if not line.startswith("{")]
    assert len(lines) == 1, outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert lines[0].startswith("tcppar: ")
    return lines[0]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_handler_that_cannot_be_used_is_told_in_one_message(tmp_path: Path, mistake: str) -> None:
    modules, target, told = MISTAKES[mistake]
    write_modules(tmp_path, modules)
    message = refusal(tmp_path, target)
    assert [text for text in told if text.replace("{folder}", str(tmp_path)) not in message] == [], message


def test_without_a_directory_a_handler_is_looked_for_where_the_server_was_started(tmp_path: Path) -> None:
    for target, told in (
        ("hd/x.py:handle", f"'hd/x.py': no such file in {tmp_path} (directory, or where the server was started)"),
        (
            "nowhere:handle",
            f"where the server's Python searches, and in {tmp_path} (directory, or where the server was",
        ),
    ):
        outcome = command.run("check", "127.0.0.1:1", "--handler", target, cwd=tmp_path)
        assert outcome.returncode == 100
        assert told in outcome.stderr


REPLY = "conn.write(b'served')"
TAKE_ONE = {
    "by name": f"{PARTIAL}def reply(conn, more): {REPLY}\nhandle = partial(reply, more=1)\n",
    "by name alone": f"{PARTIAL}def reply(conn, *, more): {REPLY}\nhandle = partial(reply, more=1)\n",
    "before it": f"{PARTIAL}def reply(more, conn): {REPLY}\nhandle = partial(reply, 1)\n",
    "cached": f"import functools\n@functools.cache\ndef handle(conn): {REPLY}\n",
    "in C": "import operator\nhandle = operator.methodcaller('write', b'served')\n",
    "any": "def handle(*args, **more): args[0].write(b'served')\n",
    "static": (
        "from socketserver import BaseRequestHandler\nclass handle(BaseRequestHandler):\n"
        "    def setup(self): self.request.sendall(b'served')\n    @staticmethod\n    def handle(): pass\n"
    ),
    "a class with more": (
        "from socketserver import BaseRequestHandler\nfrom functools import partial\nclass C(BaseRequestHandler):\n"
        "    def __init__(self, *request, more): super().__init__(*request)\n"
        "    def handle(self): self.request.sendall(b'served')\n"
        "handle = partial(C, more=1)\n"
    ),
}


@only_full
@pytest.mark.parametrize("way", TAKE_ONE)
def test_whatever_takes_a_connection_is_a_handler(serve: Serve, tmp_path: Path, way: str) -> None:
    write_modules(tmp_path, {"m": TAKE_ONE[way]})
    assert said_by(serve("127.0.0.1:0", "--handler", "m:handle", "--directory", tmp_path)) == "served"


def test_workers_refuse_threads_too(tmp_path: Path) -> None:
    write_modules(tmp_path, {"m": THREAD + HANDLE})
    assert "'the sleeper'" in refusal(tmp_path, "m:handle", "--mode", "pool")


def test_a_module_to_preload_that_fails_is_told(tmp_path: Path) -> None:
    write_modules(tmp_path, {"m": HANDLE, "n": "raise RuntimeError('not today')\n"})
    message = refusal(tmp_path, "m:handle", "--preload", "n")
    assert "preload n: RuntimeError: not today" in message
    assert "n.py, line 1" in message


def test_a_module_to_preload_that_starts_a_thread_is_named(tmp_path: Path) -> None:
    write_modules(tmp_path, {"m": HANDLE, "n": THREAD})
    message = refusal(tmp_path, "m:handle", "--preload", "n")
    assert "'the sleeper'" in message
    assert "import of n." in message


def test_a_module_that_ends_its_process_refuses_the_start(tmp_path: Path) -> None:
    write_modules(tmp_path, {"m": "import os\nos._exit(7)\n"})
    outcome = command.run("serve", "127.0.0.1:0", "--handler", "m:handle", "--directory", tmp_path)
    assert outcome.returncode in (100, 111)
    assert "the process that was loading it ended (exit 7)" in outcome.stderr
    assert "Traceback" not in outcome.stderr


# Reloading.


def version(text: str) -> str:
    return f"def handle(conn): conn.write({text!r}.encode())\n"


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(tmp_path / "changing.py", version("old"))


def start_source(serve: Serve, source: Source, *more: str, mode: str) -> Server:
    options = ["--handler", "changing:handle", "--directory", source.file.parent, "--mode", mode, *more]
    return serve("127.0.0.1:0", *options)


@only_full
def test_a_reload_loads_the_handler_again(serve: Serve, mode: str, source: Source) -> None:
    server = start_source(serve, source, mode=mode)
    assert said_by(server) == "old"
    source.write(version("new"))
    assert said_by(server) == "old"
    assert ask_for_reload(server)["changed"] == ["changing"]
    assert said_by(server) == "new"


def test_nobody_is_refused_while_handlers_are_reloaded(serve: Serve, mode: str, source: Source) -> None:
    server = start_source(serve, source, mode=mode)
    with clients_that_keep_coming(server) as told:
        for number in range(1, 4):
            source.write(version(f"new {number}"))
            assert ask_for_reload(server)["event"] == "reloaded"
        source.write("def handle(conn:\n")
        assert ask_for_reload(server)["event"] == "reload-failed"
        seen = len(told)
        wait_until(lambda: len(told) > seen + 10)
    assert told[-1] == "new 3"
    assert told == sorted(told, key=["old", "new 1", "new 2", "new 3"].index)
    ended = server.wait_for_event("end", len(told))
    assert {(end["exit"], end["ended_by"]) for end in ended} == {(0, None)}


def test_a_reload_that_fails_leaves_the_old_code_and_says_why(serve: Serve, mode: str, source: Source) -> None:
    server = start_source(serve, source, mode=mode)
    source.write("\nimport nowhere\n")
    failed = ask_for_reload(server)
    assert failed["event"] == "reload-failed"
    assert "No module named 'nowhere'" in failed["mistakes"][0]
    assert "changing.py, line 2" in failed["mistakes"][0]
    assert said_by(server) == "old"
    source.write(version("repaired"))
    assert ask_for_reload(server)["event"] == "reloaded"
    assert said_by(server) == "repaired"


def test_a_running_connection_ends_with_the_code_that_it_began_with(serve: Serve, mode: str, source: Source) -> None:
    source.write("def handle(conn):\n    for line in conn.lines(): conn.write(b'old ' + line)\n")
    server = start_source(serve, source, mode=mode)
    with server.connect() as client:
        client.sendall(b"1\n")
        assert read_line(client) == "old 1"
        source.write(version("new"))
        ask_for_reload(server)
        client.sendall(b"2\n")
        assert read_line(client) == "old 2"
        assert said_by(server) == "new"
        peer = peer_of(client)
    assert end_of(server, peer)["exit"] == 0


def test_processes_of_the_old_code_are_gone_after_a_reload(serve: Serve, mode: str, source: Source) -> None:
    server = start_source(serve, source, mode=mode)
    assert said_by(server) == "old"
    old = list(descendants(server.pid))
    ask_for_reload(server)
    wait_until(lambda: all(is_over(pid) for pid in old))
    assert said_by(server) == "old"


@only_full
def test_a_change_of_the_file_is_noticed_by_itself_if_wanted(serve: Serve, mode: str, source: Source) -> None:
    server = start_source(serve, source, "--reload", mode=mode)
    assert said_by(server) == "old"
    source.write(version("new"))
    assert next_reload(server, 0)["event"] == "reloaded"
    assert said_by(server) == "new"


@only_full
def test_a_broken_file_is_noticed_and_used_again_once_it_is_repaired(serve: Serve, mode: str, source: Source) -> None:
    server = start_source(serve, source, "--reload", mode=mode)
    source.write("def handle(conn:\n")
    failed = next_reload(server, 0)
    assert failed["event"] == "reload-failed"
    assert "SyntaxError" in failed["mistakes"][0]
    assert said_by(server) == "old"
    source.write(version("repaired"))
    server.wait_for_event("reloaded")
    assert said_by(server) == "repaired"


@only_full
def test_a_broken_file_that_was_not_there_before_is_used_once_it_is_repaired(serve: Serve, source: Source) -> None:
    server = start_source(serve, source, "--reload", mode="fork")
    beside = Source(source.file.with_name("beside.py"), "x = = 1\n")
    source.write("import beside\n" + version("new"))
    assert "beside.py" in next_reload(server, 0)["mistakes"][0]
    beside.write("x = 1\n")
    server.wait_for_event("reloaded", patience=5)
    assert said_by(server) == "new"


@only_full
def test_a_change_of_a_module_that_the_handler_imports_is_noticed_too(serve: Serve, source: Source) -> None:
    beside = Source(source.file.with_name("beside.py"), "TEXT = b'old'\n")
    source.write("import beside\ndef handle(conn): conn.write(beside.TEXT)\n")
    server = start_source(serve, source, "--reload", mode="fork")
    assert said_by(server) == "old"
    beside.write("TEXT = b'new'\n")
    next_reload(server, 0)
    assert said_by(server) == "new"


@only_full
def test_what_is_no_name_of_a_file_is_not_watched_and_ends_nobody(serve: Serve, source: Source) -> None:
    """What the files are, the service's user says."""
    odd = "import sys, types\nsys.modules['odd'] = odd = types.ModuleType('odd')\nodd.__file__ = '/odd\\0.py'\n"
    source.write(odd + version("old"))
    server = start_source(serve, source, "--reload", mode="fork")
    source.write(odd + version("new"))
    assert next_reload(server, 0)["event"] == "reloaded"
    assert said_by(server) == "new"


@only_full
def test_without_being_asked_for_no_change_is_looked_for(serve: Serve, source: Source) -> None:
    server = start_source(serve, source, mode="fork")
    source.write(version("new"))
    # Longer than changes take to be noticed where they are looked for: another server, started later, has noticed one.
    other = Source(source.file.with_name("other.py"), version("other"))
    watching = serve("127.0.0.1:0", "--handler", f"{other.file}:handle", "--reload")
    other.write(version("another"))
    next_reload(watching, 0)
    assert (reloads(server), said_by(server)) == ([], "old")


# Loads.


@pytest.mark.parametrize(("serve", "mode"), [("full", "fork"), ("full", "pool"), ("portable", "pool")], indirect=True)
def test_5_000_connections_leave_nothing_behind(serve: Serve, mode: str, load: Path) -> None:
    workers = ["--workers", "8"] if mode == "pool" else []
    server = start(serve, "one_exchange:handle", *workers, mode=mode)
    said = subprocess.run(
        [load, str(server.address[1]), str(CLIENTS), str(CONNECTIONS)], stdout=subprocess.PIPE, check=False
    )
    outcome = json.loads(said.stdout)
    assert (outcome["done"], outcome["failed"]) == (CONNECTIONS, 0), outcome
    ended = server.wait_for_event("end", CONNECTIONS)
    ids = Counter(record["id"] for record in ended)
    assert len(ids) == len(ended) == CONNECTIONS
    assert {(record["exit"], record["ended_by"]) for record in ended} == {(0, None)}
    assert server.events("refused") == []
    assert_only_idle_processes_are_left(server, mode)
    assert server.stop() == 0
    (last,) = server.events("stopped")
    assert (last["accepted"], last["ended"]) == (CONNECTIONS, CONNECTIONS)
    assert (server.events("stderr"), server.noise) == ([], [])


def assert_only_idle_processes_are_left(server: Server, mode: str) -> None:
    """No zombie; of the supervisor's descriptors, two for each of its spawners and workers at the most are of them."""
    wait_until(lambda: not [pid for pid in descendants(server.pid) if stat_fields(pid)[:1] == ["Z"]])
    spawners = len(server.events("spawner"))
    takers = spawners + (8 if mode == "pool" else 0)
    # Channels and logs; standard ones, the listener, the wait's and the wakeup's, and what a log opens anew.
    wait_until(lambda: descriptors(server.pid) <= 2 * takers + 10)
    # For each spawner no more than its spare children, or the workers.
    assert len(list(descendants(server.pid))) <= (takers if mode == "pool" else spawners * 7)


class Visitors:
    """Clients that come one after the other, so many at once; which of them failed."""

    def __init__(self, server: Server, at_once: int) -> None:
        self._server = server
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._come) for _ in range(at_once)]
        self.served: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()

    def __enter__(self) -> "Visitors":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _come(self) -> None:
        while not self._over.is_set():
            with self._server.connect() as client:
                try:
                    served = all(answers(client, b"x" * 64) for _ in range(SOAK_EXCHANGES))
                except ConnectionError:
                    served = False
                (self.served if served else self.failed)[peer_of(client)] += 1


def kill_at_random(server: Server, seconds: float) -> int:
    """Kill children of the spawners, one after the other; how many."""
    killed = 0
    until = time.monotonic() + seconds
    pause = threading.Event()
    while time.monotonic() < until:
        made = [pid for record in server.events("spawner") for pid in children_of(record["pid"])]
        if made:
            try:
                os.kill(random.choice(made), signal.SIGKILL)
                killed += 1
            except ProcessLookupError:
                pass  # it has just ended
        pause.wait(0.01)
    return killed


@pytest.mark.timeout(120 + SOAK_SECONDS)
def test_of_those_who_are_killed_under_load_only_the_clients_notice(serve: Serve, mode: str) -> None:
    server = start(serve, "echoing:handle", mode=mode)
    with Visitors(server, SOAK_CLIENTS) as visitors:
        assert kill_at_random(server, SOAK_SECONDS) > 0
    done = visitors.served.total() + visitors.failed.total()
    ended = server.wait_for_event("end", done)
    assert server.stop() == 0
    killed = Counter(end["peer"] for end in ended if end["signal"] == "SIGKILL")
    # Whose process was killed may have had its answer before. Nobody else may have failed.
    assert visitors.failed <= killed, visitors.failed - killed
    assert visitors.failed.total() > 0
    assert {end["exit"] for end in ended if end["signal"] is None} <= {0}
    assert len(server.events("end")) == done
    (last,) = server.events("stopped")
    assert (last["accepted"], last["ended"], last["refused"]) == (done, done, 0)

"""What users have called when a handler's process begins and ends."""

import functools
from pathlib import Path
from typing import Any

import pytest

import tcppar
from tests.support import command
from tests.support.command import Serve
from tests.support.handlers import said_by
from tests.support.server import Server

TEXT = """
import os, tcppar
database = None

@tcppar.on_start
def connect():
    global database
    database = f"opened by {os.getpid()}"
    print("started", os.getpid())

@tcppar.on_stop
def disconnect():
    print("stopped", os.getpid())

def handle(conn):
    conn.write(database.encode())
"""


@pytest.fixture(params=["fork", "pool"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def serve_text(serve: Serve, folder: Path, text: str, mode: str) -> Server:
    (folder / "app.py").write_text(text)
    workers = ["--workers", "2"] if mode == "pool" else []
    return serve("127.0.0.1:0", "--handler", f"{folder}/app.py:handle", "--mode", mode, *workers)


def test_they_are_called_in_each_process_that_has_connections(serve: Serve, mode: str, tmp_path: Path) -> None:
    server = serve_text(serve, tmp_path, TEXT, mode)
    for _ in range(4):
        said_by(server)
    ends = server.wait_for_event("end", 4)
    assert server.stop() == 0
    said = [record["line"] for record in server.events("stderr")]
    processes = {end["pid"] for end in ends}
    if mode == "pool":
        assert len(said) == 4, said  # of two workers, though one alone may have served
    else:
        assert sorted(said) == sorted(f"{what} {pid}" for pid in processes for what in ("started", "stopped"))
        ids = {record["id"] for record in server.events("stderr")}
        assert ids == {end["id"] for end in ends}


def test_each_process_has_what_its_own_start_has_made(serve: Serve, mode: str, tmp_path: Path) -> None:
    server = serve_text(serve, tmp_path, TEXT, mode)
    told = {said_by(server) for _ in range(4)}
    assert told <= {f"opened by {end['pid']}" for end in server.wait_for_event("end", 4)}


COROUTINE = "async def connect(): pass\ntcppar.on_start(lambda: connect())\n"


@pytest.mark.parametrize(
    ("start", "told"),
    [
        ("@tcppar.on_start\ndef connect(): raise LookupError('no database')\n", "LookupError: no database"),
        (
            COROUTINE,
            "TypeError: <lambda> has returned a coroutine of connect, which was never run: expected a function",
        ),
    ],
    ids=["raises", "returns a coroutine"],
)
def test_a_start_that_fails_ends_the_process_with_its_traceback(
    serve: Serve, tmp_path: Path, start: str, told: str
) -> None:
    server = serve_text(serve, tmp_path, f"import tcppar\n{start}def handle(conn): conn.write(b'served')\n", "fork")
    assert said_by(server) == ""
    assert server.wait_for_event("end")[0]["exit"] == 111
    server.wait_for(lambda record: record["event"] == "stderr" and record["line"].startswith(told))


def test_a_stop_that_fails_is_told(serve: Serve, mode: str, tmp_path: Path) -> None:
    text = (
        "import tcppar\n@tcppar.on_stop\ndef stop(): raise LookupError('in vain')\n"
        "def handle(conn): conn.write(b'served')\n"
    )
    server = serve_text(serve, tmp_path, text, mode)
    assert said_by(server) == "served"
    server.wait_for_event("end")
    assert server.stop() == 0
    lines = [record["line"] for record in server.events("stderr")]
    assert any(line.endswith("app.py:handle: a function of on_stop failed") for line in lines)
    assert "LookupError: in vain" in lines


async def coroutine() -> None: ...


def generator() -> object:
    yield


async def asynchronous_generator() -> object:
    yield


def of_a_name(name: str) -> None: ...


def of_a_name_by_name(*, name: str) -> None: ...


class Callable:
    async def __call__(self) -> None: ...


UNFIT: list[tuple[object, str]] = [
    (coroutine, "coroutine is an async def"),
    (Callable(), "is an async def"),
    (functools.partial(coroutine), "is an async def"),
    (generator, "generator is a generator function"),
    (asynchronous_generator, "asynchronous_generator is an async generator function"),
    (of_a_name, "of_a_name needs the argument 'name'"),
    (of_a_name_by_name, "of_a_name_by_name needs the keyword-only argument 'name'"),
    (3, "3 cannot be called"),
]


@pytest.mark.parametrize(("unfit", "told"), UNFIT)
def test_what_a_call_would_not_run_is_refused(unfit: object, told: str) -> None:
    for register in (tcppar.on_start, tcppar.on_stop):
        with pytest.raises(
            TypeError, match=f"tcppar.{register.__name__}: .*expected a function that can be called"
        ) as it:
            register(unfit)  # type: ignore[type-var]
        assert told in str(it.value)


@pytest.mark.parametrize("register", [tcppar.on_start, tcppar.on_stop])
def test_it_is_written_without_parentheses(register: Any) -> None:
    with pytest.raises(TypeError, match=rf"without parentheses: @tcppar\.{register.__name__}$"):
        register()


# The first worker begins, and its successor does not; or fails, again and again.
SUCCESSOR = """
import os, time, tcppar
FIRST = os.path.dirname(__file__) + "/first"
@tcppar.on_start
def connect():
    if os.path.exists(FIRST):
        {start}
    open(FIRST, "w").close()
def handle(conn): conn.write(b"served")
"""


@pytest.mark.parametrize("start", ["raise LookupError('no database')", "time.sleep(10)"], ids=["fails", "takes long"])
def test_clients_wait_no_longer_than_they_may_for_a_worker_that_does_not_begin(
    serve: Serve, tmp_path: Path, start: str
) -> None:
    (tmp_path / "app.py").write_text(SUCCESSOR.format(start=start))
    options = ["--workers", "1", "--connections-per-worker", "1", "--hand-over-timeout", "1s"]
    server = serve("127.0.0.1:0", "--handler", f"{tmp_path}/app.py:handle", "--mode", "pool", *options)
    assert server.exchange(b"") == b"served"
    server.wait_for_event("worker-ended")
    assert server.exchange(b"") == b""
    [refused] = server.wait_for_event("refused")
    assert (refused["reason"], refused["detail"]) == ("hand_over_timeout", "no worker has started")


@pytest.mark.parametrize("hook", ["on_start", "on_stop"])
def test_it_is_refused_at_the_start_with_its_place(tmp_path: Path, hook: str) -> None:
    (tmp_path / "app.py").write_text(
        f"import tcppar\n@tcppar.{hook}\nasync def connect(): pass\ndef handle(conn): pass\n"
    )
    outcome = command.run("serve", "127.0.0.1:0", "--handler", f"{tmp_path}/app.py:handle")
    assert outcome.returncode == 100
    assert f"tcppar.{hook}: connect is an async def" in outcome.stderr
    assert "app.py, line 2" in outcome.stderr


def test_other_results_mean_nothing(serve: Serve, mode: str, tmp_path: Path) -> None:
    """signal.signal returns the former handler, which is a function here."""
    text = (
        "import signal, tcppar\ndef former(number, frame): pass\nsignal.signal(signal.SIGUSR1, former)\n"
        "tcppar.on_start(lambda: signal.signal(signal.SIGUSR1, signal.SIG_DFL))\n"
        "def handle(conn): conn.write(b'served')\n"
    )
    server = serve_text(serve, tmp_path, text, mode)
    assert said_by(server) == "served"

"""Threads that are there after a handler was imported: which are refused, by what name, and which are let pass."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import tool
from tests.support import command
from tests.support.command import Serve
from tests.support.handlers import said_by

LIBRARY = r"""
#include <pthread.h>
#include <unistd.h>
static pthread_t thread;
static void *work(void *unused) { for (;;) pause(); return unused; }
static void at_fork(void) {
#ifdef ENDS
    if (thread) { pthread_cancel(thread); pthread_join(thread, NULL); thread = 0; }
#endif
}
__attribute__((constructor)) static void begin(void) {
    pthread_create(&thread, NULL, work, NULL);
#ifdef SEES
    pthread_atfork(at_fork, NULL, NULL);
#endif
    (void)at_fork;
}
"""
HANDLE = "def handle(conn): conn.write(b'served')\n"
THREAD = "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True, name='the sleeper').start()\n"
# As numpy: deep inside the package a library is loaded, which imports something of Python's at once.
PACKAGE = {
    "pools/__init__": "from . import core\n",
    "pools/core": "import ctypes\nctypes.CDLL({library!r})\nimport this_is_later\n",
    "this_is_later": "",
    "app": "import json, pools\n" + HANDLE,
}
only_full = pytest.mark.parametrize("serve", ["full"], indirect=True)


@pytest.fixture
def library(tmp_path: Path) -> Callable[..., str]:
    """Makes a library whose threads are there as soon as it is loaded."""

    def make(*defined: str) -> str:
        file = tmp_path / "libpools.so"
        flags = [f"-D{name}" for name in defined]
        words = [tool("gcc"), "-shared", "-fPIC", *flags, "-o", str(file), "-x", "c", "-", "-pthread"]
        subprocess.run(words, input=LIBRARY, text=True, check=True)
        return str(file)

    return make


def write(folder: Path, library: str, **more: str) -> list[str]:
    for name, text in (PACKAGE | more).items():
        file = folder / f"{name}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text.replace("{library!r}", repr(library)))
    return ["127.0.0.1:0", "--handler", "app:handle", "--directory", str(folder)]


def refusal(*arguments: str) -> str:
    outcome = command.run("serve", *arguments)
    assert outcome.returncode == 100, outcome.stderr
    return outcome.stderr


def test_a_library_that_does_not_see_to_forks_is_refused_by_its_name_and_that_of_the_import(
    tmp_path: Path, library: Callable[..., str]
) -> None:
    message = refusal(*write(tmp_path, library()))
    assert f"1 of {tmp_path}/libpools.so, started in the import of pools (pools.core)" in message
    assert "this_is_later" not in message
    assert 'threads_at_fork = "allow"' in message
    assert "tcppar.on_start" in message


@pytest.mark.parametrize("mode", ["fork", "pool"])
@pytest.mark.parametrize("defined", [("SEES",), ("SEES", "ENDS")])
@only_full
def test_a_library_that_sees_to_forks_is_let_pass(
    serve: Serve, tmp_path: Path, library: Callable[..., str], defined: tuple[str, ...], mode: str
) -> None:
    server = serve(*write(tmp_path, library(*defined)), "--mode", mode)
    assert said_by(server) == "served"


@pytest.mark.parametrize("mode", ["fork", "pool"])
def test_all_pass_where_that_is_set(serve: Serve, tmp_path: Path, library: Callable[..., str], mode: str) -> None:
    text = (
        "import logging\n" + THREAD + "import json, pools\n"
        "def handle(conn):\n"
        "    logging.getLogger().warning('%d', threading.active_count())\n"
        "    conn.write(b'served')\n"
    )
    server = serve(*write(tmp_path, library(), app=text), "--mode", mode, "--threads-at-fork", "allow")
    assert said_by(server) == "served"
    server.wait_for(lambda record: record["event"] == "stderr" and record["line"] == "1")


def test_threads_of_python_are_named_before_those_of_libraries(tmp_path: Path, library: Callable[..., str]) -> None:
    message = refusal(*write(tmp_path, library("SEES"), app=THREAD + "import pools\n" + HANDLE))
    assert "'the sleeper', started by the handler's own module and in the import of pools (pools.core)" in message


@pytest.mark.parametrize("portable", ["", "1"])
def test_a_thread_that_python_waits_for_at_its_end_keeps_nobody_waiting(tmp_path: Path, portable: str) -> None:
    text = "import threading\nthreading.Thread(target=threading.Event().wait, name='the waiter').start()\n" + HANDLE
    options = write(tmp_path, "", app=text)
    for action in ("check", "serve"):
        outcome = command.run(action, *options, environment={"TCPPAR_PORTABLE": portable} if portable else {})
        assert outcome.returncode == 100
        assert "'the waiter'" in outcome.stderr


@only_full
def test_threads_that_have_ended_harm_nobody(serve: Serve, tmp_path: Path) -> None:
    text = (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(8) as pool: list(pool.map(str, range(100)))\n" + HANDLE
    )
    for _ in range(3):
        server = serve(*write(tmp_path, "", app=text))
        assert said_by(server) == "served"
        assert server.stop() == 0

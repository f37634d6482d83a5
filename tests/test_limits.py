"""Small limits and forbidden calls: a start that cannot serve is refused with what is missing; where there is another
way, it is taken."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import unavailable
from tests.support import command
from tests.support.handlers import HANDLERS
from tests.support.server import Server

Serve = Callable[..., Server]

HERE = Path(__file__).parent
FORBIDDING = [sys.executable, str(HERE / "support" / "forbidding.py")]
# By their numbers on this machine (asm/unistd.h).
CALLS = {
    "x86_64": {
        "vfork": 58,
        "accept4": 288,
        "memfd_create": 319,
        "epoll_create1": 291,
        "fork": 57,
        "clone": 56,
        "setsid": 112,
        "kill": 62,
    },
    "aarch64": {
        "accept4": 242,
        "memfd_create": 279,
        "epoll_create1": 20,
        "clone": 220,
        "setsid": 157,
        "kill": 129,
    },
}.get(os.uname().machine, {})


def limited(most: int, kind: int = resource.RLIMIT_NOFILE) -> Callable[[], None]:
    """For a process that is to be started: both limits."""
    return lambda: resource.setrlimit(kind, (most, most))


@pytest.mark.parametrize("keep", [["--keep"], []], ids=["keeper", "alone"])
@pytest.mark.parametrize("most", [8, 10, 12, 14, 16])
def test_too_few_descriptors_are_refused_with_how_many_are_needed(most: int, keep: list[str]) -> None:
    outcome = command.run("serve", "127.0.0.1:0", *keep, "--", "cat", preexec_fn=limited(most))
    assert outcome.returncode == 111
    assert outcome.stderr.startswith(f"tcppar: the limit for open files is {most}, but at least ")
    assert outcome.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--", "cat"], ["--handler", f"{HERE}/handlers/echoing.py:handle"]])
def test_with_as_many_as_are_said_to_be_needed_everybody_is_served(arguments: list[str], serve: Serve) -> None:
    assert_served_with_as_many_as_are_needed(arguments, serve)


def test_they_are_served_with_a_keeper_too() -> None:
    assert_served_with_as_many_as_are_needed(["--keep", "--", "cat"], Server)


def assert_served_with_as_many_as_are_needed(arguments: list[str], serve: Serve) -> None:
    told = command.run("serve", "127.0.0.1:0", *arguments, preexec_fn=limited(12)).stderr
    needed = int(told.partition("at least ")[2].split()[0])
    with serve("127.0.0.1:0", *arguments, preexec_fn=limited(needed)) as server:
        for _ in range(3):
            assert server.exchange(b"hello") == b"hello"
        assert server.events("fault") == []
        assert server.stop() == 0


@pytest.mark.parametrize("megabytes", [16, 24])
def test_too_little_memory_to_begin_is_told_in_a_line(megabytes: int) -> None:
    most = limited(megabytes << 20, resource.RLIMIT_AS)
    outcome = command.run("serve", "127.0.0.1:0", "--", "no-such-program", preexec_fn=most)
    if outcome.returncode != 100:  # which is a system where that is enough
        assert outcome.returncode == 111, outcome.stderr
        assert outcome.stderr == "tcppar: not enough memory to start; raise the limit (ulimit -v, or the container's)\n"


@pytest.mark.parametrize("kilobytes", range(16_000, 28_001, 500))
def test_whatever_an_interpreter_without_memory_says_is_told_so(kilobytes: int) -> None:
    most = limited(kilobytes << 10, resource.RLIMIT_AS)
    outcome = command.run("serve", "127.0.0.1:0", "--", "no-such-program", preexec_fn=most)
    if "not import runpy" in outcome.stderr or "Fatal Python error" in outcome.stderr or outcome.returncode == 127:
        pytest.skip("Python itself does not start with so little")
    assert outcome.returncode in (100, 111), outcome.stderr
    assert "Traceback" not in outcome.stderr


@pytest.mark.parametrize(
    ("kind", "most", "hint"),
    [(resource.RLIMIT_AS, 40 << 20, "ulimit -v"), (resource.RLIMIT_FSIZE, 64 << 10, "ulimit -f")],
    ids=["memory", "files"],
)
def test_what_the_books_lack_is_told(kind: int, most: int, hint: str) -> None:
    outcome = command.run("serve", "127.0.0.1:0", "--keep", "--", "cat", preexec_fn=limited(most, kind))
    assert outcome.returncode == 111, outcome.stderr
    assert hint in outcome.stderr


def test_a_limit_that_no_child_could_set_is_refused() -> None:
    user = ["--user", "nobody"] if os.geteuid() == 0 else []
    outcome = command.run(
        *("serve", "127.0.0.1:0", *user, "--rlimit", "nofile=101", "--", "cat"), preexec_fn=limited(100)
    )
    assert outcome.returncode == 100
    assert "rlimits.nofile: 101: user " in outcome.stderr
    assert " cannot go above the server's own hard limit, 100" in outcome.stderr


@pytest.mark.parametrize("verb", ["check", "serve"])
def test_a_limit_in_which_no_worker_could_take_a_connection_is_refused(verb: str) -> None:
    pool = ["--handler", f"{HANDLERS}/echoing.py:handle", "--mode", "pool", "--rlimit", "nofile=3"]
    outcome = command.run(verb, "127.0.0.1:0", *pool)
    assert outcome.returncode == 100
    assert "rlimits.nofile: 3: a worker could take no connection: expected at least 4" in outcome.stderr


def test_the_least_limit_is_enough_for_a_worker(serve: Serve) -> None:
    pool = ["--handler", f"{HANDLERS}/echoing.py:handle", "--mode", "pool", "--rlimit", "nofile=4"]
    assert serve("127.0.0.1:0", *pool).exchange(b"hello") == b"hello"


def test_a_pool_needs_more(serve: Serve) -> None:
    pool = ["--handler", f"{HERE}/handlers/echoing.py:handle", "--mode", "pool", "--workers", "100"]
    for name in ("serve", "check"):
        outcome = command.run(name, "127.0.0.1:0", *pool, preexec_fn=limited(100))
        assert "limit for open files is 100" in outcome.stderr


@pytest.mark.parametrize("arguments", [["--", "cat"], ["--handler", f"{HERE}/handlers/echoing.py:handle"]])
def test_a_user_who_may_have_no_more_processes_is_not_served(arguments: list[str]) -> None:
    if os.geteuid() != 0:
        unavailable("only root can give a service a user whose processes are counted apart")
    user = 4107  # nobody's
    outcome = command.run(
        *("serve", "127.0.0.1:0", "--user", str(user), "--directory", "/", *arguments),
        preexec_fn=limited(1, resource.RLIMIT_NPROC),
    )
    if "no such user" in outcome.stderr:
        outcome = command.run(
            *("serve", "127.0.0.1:0", "--user", "games", "--directory", "/", *arguments),
            preexec_fn=limited(1, resource.RLIMIT_NPROC),
        )
    assert outcome.returncode == 111, outcome.stderr
    assert "cannot create a process" in outcome.stderr
    assert "Traceback" not in outcome.stderr


def forbidding(errno: str, *names: str) -> list[str]:
    if not CALLS:
        unavailable("the numbers of this machine's system calls are not known here")
    numbers = [str(CALLS[name]) for name in names if name in CALLS]
    if not numbers:
        unavailable(f"this machine has no {', '.join(names)}")
    wrapper = [*FORBIDDING, errno, ",".join(numbers)]
    if subprocess.run([*wrapper, "true"], capture_output=True, check=False).returncode != 0:
        unavailable("this system takes no filters of system calls")
    return wrapper


@pytest.mark.parametrize("errno", ["EPERM", "ENOSYS"])
@pytest.mark.parametrize("name", ["vfork", "accept4", "memfd_create", "epoll_create1"])
def test_what_is_forbidden_is_done_in_another_way(name: str, errno: str) -> None:
    with Server("127.0.0.1:0", "--", "cat", wrapper=forbidding(errno, name)) as server:
        for _ in range(3):
            assert server.exchange(b"hello") == b"hello"
        assert server.stop() == 0


_ECHOING = ["--handler", f"{HERE}/handlers/echoing.py:handle"]


@pytest.mark.parametrize("arguments", [["--", "cat"], _ECHOING], ids=["program", "fork"])
def test_a_start_whose_children_could_not_have_sessions_is_refused(arguments: list[str]) -> None:
    outcome = command.run("serve", "127.0.0.1:0", *arguments, wrapper=forbidding("EPERM", "setsid"))
    assert outcome.returncode == 111
    assert "cannot give a process a session of its own: Operation not permitted (setsid)" in outcome.stderr


def test_workers_need_none() -> None:
    wrapper = forbidding("EPERM", "setsid")
    with Server("127.0.0.1:0", *_ECHOING, "--mode", "pool", wrapper=wrapper) as server:
        assert server.exchange(b"x") == b"x"
        assert server.stop() == 0


def test_a_keeper_passes_a_stop_on_without_kill() -> None:
    with Server("127.0.0.1:0", "--keep", "--", "cat", wrapper=forbidding("EPERM", "kill")) as server:
        assert server.exchange(b"hello") == b"hello"
        assert server.stop() == 0


@pytest.mark.parametrize("errno", ["EPERM", "ENOSYS"])
def test_books_can_be_kept_without_files_in_memory(errno: str) -> None:
    with Server("127.0.0.1:0", "--keep", "--", "cat", wrapper=forbidding(errno, "memfd_create")) as server:
        assert server.exchange(b"hello") == b"hello"
        assert server.stop() == 0


@pytest.mark.parametrize("limit", ["nofile=unlimited", "nofile=99999999999", "nofile=64:99999999999"])
@pytest.mark.parametrize(
    "what", [("--", "cat"), ("--handler", f"{HANDLERS}/echoing.py:handle")], ids=["cat", "handler"]
)
@pytest.mark.parametrize("verb", ["check", "serve"])
def test_limits_that_the_system_refuses_are_told_before_any_client_comes(
    verb: str, what: tuple[str, str], limit: str
) -> None:
    """Also root cannot have more descriptors than the system's own limit (fs.nr_open)."""
    done = command.run(verb, "127.0.0.1:0", "--rlimit", limit, *what)
    assert done.returncode == 100
    assert "rlimits.nofile: " in done.stderr
    assert done.stderr.endswith(" (fs.nr_open)\n")
    assert "Traceback" not in done.stderr

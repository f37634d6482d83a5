"""Deaths and errors that have been survived by nobody once."""

import errno
import os
import signal
from pathlib import Path

import pytest

from tests.injection.outcome import assert_goes_on, assert_refused_in_order, assert_stops, supervisor_of
from tests.injection.stories import STORIES, begin, started, tell
from tests.injection.tracing import Fault, traced
from tests.support.handlers import HANDLERS, answers
from tests.support.server import read_all, read_line, wait_until
from tests.support.succession import SAYS_PID, ask_for_upgrade

pytestmark = pytest.mark.timeout(240)


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("story", ["reload", "upgrade"])
def test_a_death_at_a_close(story: str, number: int, tmp_path: Path) -> None:
    """In a rollout, what the books still name may be closed by then."""
    kind = ("--handler", f"{HANDLERS}/waiting.py:handle")
    with started(["--keep", "--drain-timeout", "2s", *kind]) as server, server.connect() as client:
        read_line(client)
        supervisor = supervisor_of(server, keep=True)
        if story == "upgrade":
            # The rollout is what counts, which the next supervisor does.
            assert ask_for_upgrade(server)["event"] == "upgraded"
            supervisor = supervisor_of(server, keep=True)
        tell(
            STORIES["reload"], server, supervisor, supervisor, Fault("close", number, None).options, tmp_path / "calls"
        )
        assert_goes_on(server, client, keep=True)
        client.close()
        assert_stops(server, keep=True)


@pytest.mark.parametrize("error", [errno.ENOBUFS, errno.ENOMEM], ids=errno.errorcode.get)
def test_a_spawner_that_was_not_heard_once(error: int, tmp_path: Path) -> None:
    options = Fault("recvfrom", 1, error).options
    with (
        started(["--max-lifetime", "2s", "--drain-timeout", "100ms", *SAYS_PID]) as server,
        traced([server.pid], options, tmp_path / "calls"),
    ):
        with server.connect() as client:
            read_line(client)
            assert client.recv(1) == b""
        with server.connect() as another:
            read_line(another)
            os.kill(server.pid, signal.SIGTERM)
            assert another.recv(1) == b""
            assert server.wait() == 0


def test_the_log_of_children_that_cannot_be_watched(tmp_path: Path) -> None:
    arguments = ["--", "sh", "-c", "echo $$; echo said >&2; exec cat"]
    with started(arguments) as server, server.connect() as client:
        read_line(client)
        fault = "inject=epoll_ctl:error=ENOSPC:when=1..6"
        with traced([server.pid], ["-e", "trace=epoll_ctl", "-e", fault], tmp_path / "calls"):
            server.signal(signal.SIGHUP)
            server.wait_for_event("reloaded")
            with server.connect() as another:
                read_line(another)
                assert answers(another)
        wait_until(lambda: len(server.events("stderr")) == 2)
        assert answers(client)
        client.close()
        assert_stops(server, keep=False)


@pytest.mark.parametrize("which", ["2", "2+2"], ids=["once", "again and again"])
def test_a_program_that_could_not_take_over_at_once(which: str, tmp_path: Path) -> None:
    """Right after an exec nobody else can go on: without a keeper its first error was the end of all connections."""
    with started([*SAYS_PID]) as server, server.connect() as client:
        read_line(client)
        # The first one finds out whether there is epoll, the second one is to wait with.
        options = ["-e", "trace=epoll_create1", "-e", f"inject=epoll_create1:error=EMFILE:when={which}"]
        with traced([server.pid], options, tmp_path / "calls", beyond_exec=True):
            server.signal(signal.SIGUSR2)
            tries = 1 if which == "2" else 3
            wait_until(lambda: sum("trying again" in line for line in server.noise) >= tries)
        server.wait_for_event("upgraded")
        assert answers(client)
        assert_goes_on(server, client, keep=False)
        client.close()
        assert_stops(server, keep=False)


# At a report, which the child has a second to precede by its end; or when the child has been waited for.
_BEFORE_IT_IS_TOLD = {
    "report": "sendto,sendmsg:delay_enter=1000000:signal=SIGKILL:when=1",
    "wait": "wait4:signal=SIGKILL:when=1",
}


@pytest.mark.parametrize("fault", _BEFORE_IT_IS_TOLD.values(), ids=_BEFORE_IT_IS_TOLD)
@pytest.mark.parametrize("kind", ["program", "fork"])
def test_who_was_served_is_not_served_again(fault: str, kind: str, tmp_path: Path) -> None:
    handler = tmp_path / "greeting.py"
    handler.write_text("def handle(conn):\n    conn.write(b'once\\n')\n")
    what = ["--", "echo", "once"] if kind == "program" else ["--handler", f"{handler}:handle"]
    options = ["-e", f"trace={fault.partition(':')[0]}", "-e", f"inject={fault}"]
    with started(what) as server:
        [spawner] = [record["pid"] for record in server.wait_for_event("spawner")]
        with traced([spawner], options, tmp_path / "calls", beyond_exec=True), server.connect() as client:
            assert read_all(client) == b"once\n"
            server.wait_for_event("spawner-died")
            server.wait_for_event("end")
        with server.connect() as another:
            assert read_all(another) == b"once\n"
        server.wait_for_event("end", 2)
        assert_stops(server, keep=False)


def test_a_keeper_that_could_not_read_at_once(tmp_path: Path) -> None:
    """What was swapped out may not be had for a moment: the keeper ended with that, and everybody with it."""
    with started(["--keep", *SAYS_PID]) as server, server.connect() as client:
        read_line(client)
        options = ["-e", "trace=pread64", "-e", "inject=pread64:error=EIO:when=1..2"]
        with traced([server.pid], options, tmp_path / "calls", beyond_exec=True):
            os.kill(supervisor_of(server, keep=True), signal.SIGKILL)
            server.wait_for_event("recovered")
        assert answers(client)
        client.close()
        assert_stops(server, keep=True)


def test_reports_that_could_not_be_let_go_of(tmp_path: Path) -> None:
    """What has been read is read once more to be dropped. That it failed was the end of each supervisor."""
    with started(["--keep", *SAYS_PID]) as server:
        supervisor = supervisor_of(server, keep=True)
        for number in range(2, 6):
            calls = tmp_path / str(number)
            with traced([supervisor], Fault("recvmsg", number, errno.ENOMEM).options, calls, beyond_exec=True):
                while "INJECTED" not in calls.read_text():
                    with server.connect() as client:
                        read_line(client)
                        assert answers(client)
        assert not server.events("recovered")
        assert_stops(server, keep=True)


def test_a_start_whose_log_could_not_be_looked_at_is_refused(tmp_path: Path) -> None:
    """It served without a log."""
    refused = 0
    for number in range(36, 44):
        with started(SAYS_PID, ready=False) as server:
            begin(server, Fault("newfstatat", number, errno.ENOMEM).options, tmp_path / "calls")
            if server.process.poll() is None:
                server.wait_for_event("listening")
                assert_stops(server, keep=False)
            else:
                assert_refused_in_order(server)
                refused += 1
    assert refused


def test_workers_of_whom_it_could_not_be_asked_what_they_have_read(tmp_path: Path) -> None:
    """It was the end of the server."""
    handler = f"{HANDLERS}/waiting.py:handle"
    with started(["--handler", handler, "--mode", "pool", "--workers", "2"]) as server:
        options = ["-e", "trace=poll,ioctl", "-e", "inject=poll,ioctl:error=ENOMEM:when=1..6"]
        with traced([server.pid], options, tmp_path / "calls", beyond_exec=True), server.connect() as client:
            read_line(client)
            wait_until(lambda: "ENOMEM" in (tmp_path / "calls").read_text())
            assert answers(client)
        assert_stops(server, keep=False)


# Which of its calls looks at the listener, depends on what stands before it.
@pytest.mark.parametrize("number", range(6, 11))
def test_a_listener_that_could_not_be_looked_at_is_not_given_up(number: int, tmp_path: Path) -> None:
    """In a takeover, what memory was short for counted as closed: the server came back with another port."""
    with started([*SAYS_PID]) as server, server.connect() as client:
        read_line(client)
        with traced(
            [server.pid], Fault("newfstatat", number, errno.ENOMEM).options, tmp_path / "calls", beyond_exec=True
        ):
            server.signal(signal.SIGUSR2)
            wait_until(lambda: bool(server.events("upgraded") or server.events("upgrade-failed")))
        assert_goes_on(server, client, keep=False)
        client.close()
        assert_stops(server, keep=False)

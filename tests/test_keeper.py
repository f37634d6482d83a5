"""The keeper: however the supervisor dies, another goes on in its place, and no client notices."""

import json
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.conftest import tool
from tests.support import command, config
from tests.support.handlers import answers, children_of, end_of, is_over, peer_of, spawner_of
from tests.support.server import (
    PATIENCE,
    Record,
    Server,
    descendants,
    descriptors,
    parent_of,
    read_line,
    stat_fields,
    stop_process,
    wait_until,
)
from tests.support.succession import (
    KINDS,
    SAYS_PID,
    ask_for_upgrade,
    command_of,
    install,
    kill_supervisor,
    supervisor_of,
    upgrade,
)
from tests.test_load import outcome_of, start_load


def kill_all(keeper: int) -> None:
    """Kill a keeper and all below it. It stands meanwhile: it starts no supervisor, and every orphan becomes its child,
    so that none is overlooked.
    """
    os.kill(keeper, signal.SIGSTOP)
    wait_until(lambda: stat_fields(keeper)[0] in ("T", "Z"))
    wait_until(lambda: not kill_living([*descendants(keeper)]))
    os.kill(keeper, signal.SIGKILL)


def kill_living(pids: list[int]) -> list[int]:
    """Kill those that have not ended; they."""
    living = [pid for pid in pids if not is_over(pid)]
    for pid in living:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return living


@contextmanager
def kept(*arguments: str | Path, **options: object) -> Iterator[Server]:
    """A server with a keeper; all of its processes are killed afterwards, if they still are."""
    server = Server("--keep", *arguments, **options)  # type: ignore[arg-type]
    try:
        yield server
    finally:
        if server.process.poll() is None:
            kill_all(server.pid)
        server.__exit__(None, None, None)


@pytest.fixture(params=list(KINDS.values()), ids=list(KINDS))
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server with a keeper, of something that tells its process id and then echoes."""
    with kept("127.0.0.1:0", *request.param) as server:
        yield server


def assert_stops_with(server: Server, connections: int) -> None:
    assert server.stop() == 0
    [last] = server.events("stopped")
    assert (last["accepted"], last["ended"], last["refused"]) == (connections, connections, 0)


def test_conversations_go_on_and_are_recorded(server: Server) -> None:
    with server.connect() as before:
        pid = int(read_line(before))
        record = kill_supervisor(server)
        assert record["outcome"] == "signal SIGKILL"
        assert record["connections"] == 1
        with server.connect() as after:
            assert int(read_line(after)) != pid
            assert answers(before)
            assert answers(after)
            peers = [peer_of(before), peer_of(after)]
    ends = [end_of(server, peer) for peer in peers]
    assert ends[0]["pid"] == pid
    assert [(end["exit"], end["signal"], end["ended_by"]) for end in ends] == [(0, None, None)] * 2
    assert len(server.events("spawner")) == 1
    assert_stops_with(server, 2)


def test_clients_who_come_meanwhile_are_served(server: Server) -> None:
    supervisor = supervisor_of(server)
    stop_process(supervisor)
    with server.connect() as first, server.connect() as second:
        os.kill(supervisor, signal.SIGKILL)
        for client in (first, second):
            read_line(client)
            assert answers(client)
    server.wait_for_event("recovered")


def test_one_death_after_the_other(server: Server) -> None:
    server.exchange(b"x")
    server.wait_for_event("end")
    before = descriptors(supervisor_of(server))
    with server.connect() as client:
        read_line(client)
        for _ in range(5):
            kill_supervisor(server)
            assert answers(client)
        peer = peer_of(client)
    assert end_of(server, peer)["exit"] == 0
    wait_until(lambda: descriptors(supervisor_of(server)) == before)
    assert_stops_with(server, 2)


def test_20_deaths_under_load_lose_nobody(load: Path, echo: Path) -> None:
    with kept("127.0.0.1:0", "--", echo) as server:
        running = start_load(load, server, 5)
        for _ in range(20):
            kill_supervisor(server)
        outcome = outcome_of(running)
        assert outcome["failed"] == 0, outcome
        assert_stops_with(server, outcome["done"])
        # In the instant between the writing of a record and the note of it, a death makes it be told again.
        assert len({end["id"] for end in server.events("end")}) == outcome["done"]


# What a next supervisor knows.


def test_who_was_there_before_counts() -> None:
    with kept("127.0.0.1:0", "--max-connections", "1", "--when-full", "refuse", *SAYS_PID) as server:
        with server.connect() as client:
            read_line(client)
            kill_supervisor(server)
            with server.connect() as second:
                assert second.recv(1) == b""
            [refused] = server.wait_for_event("refused")
        assert refused["reason"] == "max_connections"


def test_a_lifetime_goes_on() -> None:
    with kept("127.0.0.1:0", "--max-lifetime", "1s", *SAYS_PID) as server, server.connect() as client:
        read_line(client)
        kill_supervisor(server)
        assert client.recv(1) == b""
        end = end_of(server, peer_of(client))
        assert (end["signal"], end["ended_by"]) == ("SIGTERM", "max_lifetime")


def test_a_spawner_that_is_killed_later_leaves_its_children_in_the_books() -> None:
    with kept("127.0.0.1:0", *SAYS_PID) as server, server.connect() as client:
        read_line(client)
        kill_supervisor(server)
        os.kill(spawner_of(server), signal.SIGKILL)
        server.wait_for_event("spawner-died")
        server.wait_for_event("spawner", 2)
        kill_supervisor(server)
        assert answers(client)
        client.close()
        [end] = server.wait_for_event("end")
        assert end["exit"] == 0
        with server.connect() as another:
            read_line(another)


def test_a_spawner_that_dies_with_the_supervisor_is_replaced() -> None:
    with kept("127.0.0.1:0", *SAYS_PID) as server, server.connect() as client:
        read_line(client)
        supervisor = supervisor_of(server)
        stop_process(supervisor)
        os.kill(spawner_of(server), signal.SIGKILL)
        os.kill(supervisor, signal.SIGKILL)
        server.wait_for_event("recovered")
        server.wait_for_event("spawner", 2)
        assert answers(client)
        with server.connect() as another:
            read_line(another)
        client.close()
        assert {end["exit"] for end in server.wait_for_event("end", 2)} == {0}


def test_what_was_in_force_counts_and_not_the_file(tmp_path: Path) -> None:
    file = tmp_path / "tcppar.toml"
    config.write(file, {"one": {"listen": ["127.0.0.1:0"], "command": ["cat"]}})
    with kept("-c", file) as server:
        file.write_text("nonsense")
        kill_supervisor(server)
        assert server.exchange(b"x") == b"x"


# Signals and ends.


def test_a_stop_that_was_under_way_goes_on() -> None:
    with kept("127.0.0.1:0", *SAYS_PID) as server, server.connect() as client:
        read_line(client)
        server.signal(signal.SIGTERM)
        server.wait_for_event("stopping")
        kill_supervisor(server)
        assert answers(client)
        client.close()
        assert server.wait() == 0


def test_a_stop_that_is_asked_of_a_dying_supervisor_is_obeyed() -> None:
    with kept("127.0.0.1:0", *SAYS_PID) as server:
        supervisor = supervisor_of(server)
        stop_process(supervisor)
        server.signal(signal.SIGTERM)
        os.kill(supervisor, signal.SIGKILL)
        assert server.wait() == 0
        assert server.events("recovered")


@pytest.mark.parametrize("successor", [upgrade, kill_supervisor], ids=["upgraded", "killed"])
def test_what_befell_no_connection_is_counted_on(successor: Callable[[Server], object]) -> None:
    with kept("127.0.0.1:0", *SAYS_PID) as server:
        server.signal(signal.SIGUSR1)
        server.wait_for_event("reset")
        successor(server)
        server.exchange(b"x")
        assert server.stop() == 0
        assert server.events("stopped")[0]["resets"] == 1


def test_signals_are_passed_on() -> None:
    with kept("127.0.0.1:0", *SAYS_PID) as server:
        server.signal(signal.SIGUSR1)
        server.wait_for_event("reset")
        server.signal(signal.SIGHUP)
        server.wait_for_event("reloaded")


@pytest.mark.parametrize(
    ("arguments", "code"), [(("--", "no-such-program"), 100), (("--strikes", "x", "--", "cat"), 100)]
)
def test_a_start_that_fails_ends_the_keeper(arguments: tuple[str, ...], code: int) -> None:
    assert command.run("serve", "--keep", "127.0.0.1:0", *arguments).returncode == code


def test_a_handler_that_cannot_be_loaded_ends_the_keeper(tmp_path: Path) -> None:
    file = tmp_path / "talk.py"
    file.write_text("def handle(conn:\n")
    for mode in ("fork", "pool"):
        done = command.run("serve", "--keep", "127.0.0.1:0", "--handler", f"{file}:handle", "--mode", mode)
        assert done.returncode == 100
        assert "SyntaxError" in done.stderr
        assert "recovered" not in done.stderr


def test_a_port_that_is_taken_ends_the_keeper() -> None:
    with kept("127.0.0.1:0", *SAYS_PID) as server:
        host, port = server.address
        done = command.run("serve", "--keep", f"{host}:{port}", *SAYS_PID)
    assert done.returncode == 111
    assert "listens there" in done.stderr


def test_nothing_is_left_after_a_stop() -> None:
    with kept("127.0.0.1:0", *SAYS_PID) as server:
        kill_supervisor(server)
        pids = [*descendants(server.pid)]
        assert server.stop() == 0
        assert all(is_over(pid) for pid in pids)


def test_where_descriptors_cannot_be_shared_it_is_refused() -> None:
    done = command.run("serve", "--keep", "127.0.0.1:0", *SAYS_PID, environment={"TCPPAR_PORTABLE": "1"})
    assert done.returncode == 111
    assert "--keep: needs Linux" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a namespace")
def test_process_1_has_a_keeper() -> None:
    words = command.words("serve", "--log-format", "json", "127.0.0.1:0", *SAYS_PID)
    namespace = [tool("unshare"), "--pid", "--fork", "--kill-child", "--mount-proc"]
    with subprocess.Popen([*namespace, *words], stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        while json.loads(process.stderr.readline())["event"] != "listening":
            pass
        [first] = children_of(process.pid)
        [supervisor, *_] = children_of(first)
        os.kill(supervisor, signal.SIGKILL)
        while json.loads(process.stderr.readline())["event"] != "recovered":
            pass
        os.kill(first, signal.SIGTERM)
        process.stderr.read()
        assert process.wait(PATIENCE) == 0


def test_who_has_started_it_may_ignore_the_end_of_children() -> None:
    with kept("127.0.0.1:0", *SAYS_PID, preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN)) as server:
        kill_supervisor(server)
        with server.connect() as client:
            read_line(client)
        assert server.stop() == 0


def test_signals_that_were_blocked_or_ignored_are_obeyed() -> None:
    def set_otherwise() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())

    with kept("127.0.0.1:0", *SAYS_PID, preexec_fn=set_otherwise) as server:
        upgrade(server)
        kill_supervisor(server)
        with server.connect() as client:
            read_line(client)
        assert server.stop() == 0


def test_signals_whose_default_is_an_end_do_not_end_the_keeper() -> None:
    with kept("127.0.0.1:0", *SAYS_PID) as server:
        for number in (signal.SIGALRM, signal.SIGVTALRM, signal.SIGPIPE, signal.SIGIO):
            server.signal(number)
        server.signal(signal.SIGHUP)
        server.wait_for_event("reloaded")


def test_a_supervisor_that_was_short_of_descriptors_is_followed_by_another() -> None:
    with kept("127.0.0.1:0", *SAYS_PID) as server, server.connect() as client:
        read_line(client)
        supervisor = supervisor_of(server)
        for pid in (server.pid, supervisor):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (descriptors(supervisor), 1024))
        kill_supervisor(server)
        assert answers(client)
        resource.prlimit(supervisor_of(server), resource.RLIMIT_NOFILE, (1024, 1024))
        with server.connect() as another:
            read_line(another)


# A keeper that is killed.


def test_without_its_keeper_a_supervisor_goes_on(server: Server) -> None:
    with server.connect() as client:
        read_line(client)
        supervisor = supervisor_of(server)
        os.kill(server.pid, signal.SIGKILL)
        [lost] = server.wait_for_event("keeper-lost")
        assert lost["pid"] == supervisor
        with server.connect() as another:
            read_line(another)
            assert answers(client)
        os.kill(supervisor, signal.SIGTERM)
        client.close()
        wait_until(lambda: is_over(supervisor))
        [last] = server.wait_for_event("stopped")
        assert (last["accepted"], last["ended"]) == (2, 2)


def test_an_upgrade_brings_another_keeper(server: Server) -> None:
    with server.connect() as client:
        read_line(client)
        supervisor = supervisor_of(server)
        os.kill(server.pid, signal.SIGKILL)
        server.wait_for_event("keeper-lost")
        assert command.run("upgrade", str(supervisor)).returncode == 0
        [next_one] = [record["pid"] for record in _recovered(server, supervisor)]
        assert parent_of(next_one) == supervisor
        assert answers(client)
        with server.connect() as another:
            read_line(another)
        os.kill(supervisor, signal.SIGTERM)
        client.close()
        wait_until(lambda: is_over(supervisor))


def _recovered(server: Server, keeper: int) -> list[Record]:
    """The supervisor of another keeper is killed; what the next one says."""
    [supervisor] = [pid for pid in children_of(keeper) if command_of(pid) == command_of(keeper)]
    os.kill(supervisor, signal.SIGKILL)
    return server.wait_for_event("recovered")


def test_the_spawner_of_a_supervisor_that_was_killed_before_the_keeper_is_missed() -> None:
    with kept("127.0.0.1:0", *SAYS_PID) as server, server.connect() as client:
        read_line(client)
        kill_supervisor(server)
        supervisor = supervisor_of(server)
        os.kill(server.pid, signal.SIGKILL)
        server.wait_for_event("keeper-lost")
        os.kill(spawner_of(server), signal.SIGKILL)
        server.wait_for_event("spawner-died")
        with server.connect() as another:
            read_line(another)
            assert answers(client)
        os.kill(supervisor, signal.SIGKILL)


def test_whoever_was_offered_to_a_stopped_spawner_is_served_by_the_next_supervisor() -> None:
    """Only the next offer had the answers looked for, and there need not be any."""
    with kept("127.0.0.1:0", *SAYS_PID) as server:
        # Whose child it is not any more is not told that a spawner was stopped.
        kill_supervisor(server)
        supervisor = supervisor_of(server)
        stop_process(spawner_of(server))
        before = descriptors(supervisor)
        with server.connect() as client:
            wait_until(lambda: descriptors(supervisor) > before)
            kill_supervisor(server)
            read_line(client)
            assert answers(client)


# Supervisors that come to nothing.


@contextmanager
def spoilt(folder: Path, instead: str, *arguments: str) -> Iterator[Server]:
    """A server that was upgraded to a version whose supervisors do something else than to take over."""
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    with kept("127.0.0.1:0", *arguments, *SAYS_PID, environment={"PYTHONPATH": path}, cwd=Path("/")) as server:
        place = "        succession, core, running = self._succession, self._core, self._running\n"
        install(folder, "supervisor/succession/continuity.py", place, f"{place}        {instead}\n")
        server.signal(signal.SIGUSR2)
        wait_until(lambda: "+" in Path(f"/proc/{server.pid}/comm").read_text())
        yield server


def test_a_version_that_dies_in_the_takeover_can_be_stopped(tmp_path: Path) -> None:
    with spoilt(tmp_path, "raise ValueError") as server, server.connect() as client:
        wait_until(lambda: sum("ValueError" in line for line in list(server.noise)) >= 3)
        left = list(descendants(server.pid))
        started = time.monotonic()
        assert server.stop() == 111
        assert time.monotonic() - started < 5
        assert all(is_over(pid) for pid in left)
        with suppress(ConnectionResetError):
            assert client.recv(1) == b""
    assert any("stopped by force" in line for line in server.noise)


def test_deaths_at_the_start_are_not_as_fast_as_can_be(tmp_path: Path) -> None:
    with spoilt(tmp_path, "raise ValueError") as server:
        wait_until(lambda: sum("ValueError" in line for line in list(server.noise)) >= 6)
        before = len(server.noise)
        wait_until(lambda: len(server.noise) > before)
        assert len([pid for pid in children_of(server.pid) if command_of(pid) == command_of(server.pid)]) <= 1
        server.stop()


@pytest.mark.parametrize(
    ("patience", "asks"), [("100ms", [signal.SIGTERM]), ("60s", [signal.SIGINT] * 3)], ids=["in time", "hurried"]
)
def test_a_supervisor_that_hangs_is_ended(patience: str, asks: list[signal.Signals], tmp_path: Path) -> None:
    times = ("--drain-timeout", patience, "--kill-timeout", patience)
    with spoilt(tmp_path, "__import__('time').sleep(1000)", *times) as server:
        left = list(descendants(server.pid))
        started = time.monotonic()
        for number in asks:
            server.signal(number)
            wait_until(lambda: "ShdPnd:\t0000000000000000" in Path(f"/proc/{server.pid}/status").read_text())
        if patience == "100ms":
            assert server.wait() == 111
            assert 9 < time.monotonic() - started < 20
            assert all(is_over(pid) for pid in left)
        else:
            supervisor = supervisor_of(server)
            wait_until(lambda: is_over(supervisor))
            assert 9 < time.monotonic() - started < 20


# Upgrades.


def test_an_upgrade_replaces_the_keeper_too(server: Server) -> None:
    with server.connect() as client:
        pid = int(read_line(client))
        upgrade(server)
        kill_supervisor(server)
        upgrade(server)
        assert answers(client)
        peer = peer_of(client)
    assert end_of(server, peer)["pid"] == pid
    assert_stops_with(server, 1)


def test_a_version_that_cannot_go_on_changes_nothing(tmp_path: Path) -> None:
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    with kept("127.0.0.1:0", *SAYS_PID, environment={"PYTHONPATH": path}, cwd=Path("/")) as server:
        install(tmp_path, "keeper.py", "class Keeper:", "class Keeper(:")
        assert ask_for_upgrade(server)["event"] == "upgrade-failed"
        kill_supervisor(server)
        with server.connect() as client:
            read_line(client)


def test_the_command_upgrades_a_server_with_a_keeper() -> None:
    with kept("127.0.0.1:0", *SAYS_PID) as server:
        assert command.run("upgrade", str(server.pid)).returncode == 0
        server.wait_for_event("upgraded")

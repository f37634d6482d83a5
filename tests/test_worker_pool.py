"""Workers of a pool: how many there are, what ends them, and what their clients notice of it."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from signal import Signals
from typing import Any

import pytest

from tests.conftest import HERE
from tests.support import config
from tests.support.command import Serve
from tests.support.handlers import (
    HANDLERS,
    answers,
    ask_for_reload,
    children_of,
    end_of,
    is_over,
    peer_of,
    said_by,
    spawner_of,
    start,
)
from tests.support.server import PATIENCE, Record, Server, descriptors, read_all, read_line, stop_process, wait_until


def start_pool(serve: Serve, target: str, workers: str, *more: str) -> Server:
    """A pool whose least workers are there."""
    server = start(serve, target, "--workers", workers, *more, mode="pool")
    server.wait_for_event("worker", int(workers.partition("-")[0]))
    return server


def workers_of(server: Server) -> list[int]:
    """Process ids of the workers that were started and have not ended, in the order of their start."""
    ended = {record["pid"] for record in server.events("worker-ended")}
    return [record["pid"] for record in server.events("worker") if record["pid"] not in ended]


@contextmanager
def taken_client(server: Server) -> Iterator[tuple[socket.socket, int]]:
    """A client in conversation, and its worker, of which the supervisor knows that it has the connection."""
    before = descriptors(server.pid)
    with server.connect() as client:
        pid = int(read_line(client))
        wait_until(lambda: descriptors(server.pid) == before)
        yield client, pid


def ended_workers(server: Server, **wanted: Any) -> list[Record]:
    """Records of ended workers that have all these values."""
    return [record for record in server.events("worker-ended") if wanted.items() <= record.items()]


# How many.


def test_the_least_workers_are_there_from_the_start_and_no_more(serve: Serve) -> None:
    server = start_pool(serve, "counting:handle", "3-5")
    told = {said_by(server).split()[0] for _ in range(20)}
    assert {int(pid) for pid in told} <= set(workers_of(server))
    assert server.events("worker")[-1]["workers"] == 3


def test_workers_grow_up_to_the_most_while_clients_wait_and_further_clients_wait(serve: Serve) -> None:
    server = start_pool(serve, "waiting:handle", "1-3")
    with ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(3)]
        pids = [int(read_line(client)) for client in clients]
        server.wait_for_event("worker", 3)
        assert sorted(pids) == sorted(workers_of(server))
        waiting = [stack.enter_context(server.connect()) for _ in range(3)]
        for client in waiting:
            client.sendall(b"x")
        for leaving, coming in zip(clients, waiting, strict=True):
            peer = peer_of(leaving)
            leaving.close()
            # Who waits has the worker that became free, and there never was another one.
            assert int(read_line(coming)) == end_of(server, peer)["pid"]
            assert coming.recv(1) == b"x"
    assert len(server.events("worker")) == 3
    assert server.events("worker-ended") == []


def test_a_client_that_waits_for_a_worker_is_accepted_when_one_is_free(serve: Serve) -> None:
    server = start_pool(serve, "waiting:handle", "1", "--hand-over-timeout", "1h")
    with server.connect() as first, ExitStack() as stack:
        pid = read_line(first)
        # More than the supervisor takes in hand.
        waiting = [stack.enter_context(server.connect()) for _ in range(50)]
        first.close()
        for client in waiting:
            assert read_line(client) == pid
            client.close()
    ended = server.wait_for_event("end", 51)
    assert {(end["pid"], end["exit"]) for end in ended} == {(int(pid), 0)}
    assert server.events("refused") == []


@pytest.mark.parametrize("serve", ["full"], indirect=True)
def test_a_worker_that_ends_at_once_has_had_its_client_though_another_keeps_its_channel(serve: Serve) -> None:
    """The client must not be served again, by another worker."""
    server = start_pool(serve, "leaving:handle", "2")
    for _ in range(5):
        with server.connect() as client:
            pid = int(read_line(client))
            end = end_of(server, peer_of(client))
            assert (end["pid"], end["exit"]) == (pid, 0)
            client.setblocking(False)
            with pytest.raises(BlockingIOError):
                client.recv(1)


# Replacing them.


def test_a_worker_is_replaced_after_its_connections(serve: Serve) -> None:
    server = start_pool(serve, "counting:handle", "1", "--connections-per-worker", "3")
    told = [said_by(server).split() for _ in range(9)]
    assert [count for _, count in told] == ["1", "2", "3"] * 3
    assert len({pid for pid, _ in told}) == 3
    server.wait_for_event("worker-ended", 3)
    assert len(ended_workers(server, asked=True, outcome="exit 0")) == 3
    assert {end["exit"] for end in server.wait_for_event("end", 9)} == {0}


def test_a_worker_that_has_grown_is_replaced(serve: Serve) -> None:
    server = start_pool(serve, "growing:handle", "1", "--worker-memory", "100M")
    # 40 MB a connection, and some that Python itself has: the third is beyond the limit, or the second.
    pids = [said_by(server) for _ in range(6)]
    assert len(set(pids)) in (2, 3)
    assert pids[0] == pids[1]
    server.wait_for_event("worker-ended")
    assert ended_workers(server, asked=True, outcome="exit 0")
    assert {end["exit"] for end in server.wait_for_event("end", 6)} == {0}


def test_a_worker_that_is_small_stays(serve: Serve) -> None:
    server = start_pool(serve, "counting:handle", "1", "--worker-memory", "100M")
    assert len({said_by(server).split()[0] for _ in range(6)}) == 1


# Ending them.


def test_a_lifetime_ends_the_worker_in_the_connection_and_no_other(serve: Serve) -> None:
    server = start_pool(serve, "waiting:handle", "2", "--max-lifetime", "300ms")
    with server.connect() as client:
        pid = int(read_line(client))
        [other] = [worker for worker in workers_of(server) if worker != pid]
        with server.connect() as second:
            assert int(read_line(second)) == other
        assert client.recv(1) == b""
        end = end_of(server, peer_of(client))
    assert (end["signal"], end["ended_by"], end["pid"]) == ("SIGTERM", "max_lifetime", pid)
    server.wait_for_event("worker", 3)
    assert other in workers_of(server)
    assert [record["pid"] for record in server.events("worker-ended")] == [pid]


def test_a_lifetime_that_is_over_in_the_last_moment_ends_no_later_connection(serve: Serve, tmp_path: Path) -> None:
    # The signal reaches the worker when its connection has ended, or is about to.
    pool = {"handler": f"{HANDLERS}/waiting.py:handle", "mode": "pool", "workers": 1, "max_lifetime": "400ms"}
    clock = {"listen": ["127.0.0.2:0"], "command": ["cat"], "max_lifetime": "500ms"}
    config.write(tmp_path / "tcppar.toml", {"pool": pool | {"listen": ["127.0.0.1:0"]}, "clock": clock})
    server = serve("-c", tmp_path / "tcppar.toml")
    server.wait_for_event("worker")
    with taken_client(server) as (first, worker):
        peer = peer_of(first)
        stop_process(worker)
        first.shutdown(socket.SHUT_WR)
        with socket.create_connection(server.addresses[1], timeout=PATIENCE) as watching:
            assert watching.recv(1) == b""
        # So the first one's time is over too: the worker goes on with both before it, the end and the signal.
        assert end_of(server, peer)["ended_by"] == "max_lifetime"
    with server.connect() as second:
        read_line(second)
        second.shutdown(socket.SHUT_WR)
        assert second.recv(1) == b""
        end = end_of(server, peer_of(second))
    assert (end["exit"], end["signal"], end["ended_by"]) == (0, None, None)


def test_an_idle_worker_that_is_killed_is_replaced_and_no_client_notices(serve: Serve) -> None:
    server = start_pool(serve, "counting:handle", "2")
    for number in range(1, 6):
        victim = workers_of(server)[0]
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda pid=victim: is_over(pid))  # type: ignore[misc]
        assert [bool(said_by(server)) for _ in range(4)] == [True] * 4
        # A client has its answer before the worker has said so.
        server.wait_for_event("end", 4 * number)
        server.wait_for_event("worker-ended", number)
        server.wait_for_event("worker", 2 + number)
    assert len(ended_workers(server, asked=False, outcome="signal SIGKILL")) == 5
    assert {end["exit"] for end in server.wait_for_event("end", 20)} == {0}


@pytest.mark.parametrize("known", [True, False], ids=["known", "just taken"])
def test_a_worker_that_is_killed_costs_its_own_client_alone(serve: Serve, known: bool) -> None:
    server = start_pool(serve, "waiting:handle", "2")
    before = descriptors(server.pid)
    with server.connect() as first, server.connect() as second:
        pid, other = int(read_line(first)), int(read_line(second))
        if known:
            wait_until(lambda: descriptors(server.pid) == before)
        os.kill(pid, signal.SIGKILL)
        assert first.recv(1) == b""
        end = end_of(server, peer_of(first))
        assert answers(second)
        peer = peer_of(second)
    assert (end["pid"], end["exit"], end["signal"], end["ended_by"]) == (pid, None, "SIGKILL", None)
    end = end_of(server, peer)
    assert (end["pid"], end["exit"], end["signal"]) == (other, 0, None)
    assert bool(said_by(server)) is True


def test_an_offer_that_a_killed_worker_had_not_read_is_offered_to_another(serve: Serve) -> None:
    server = start_pool(serve, "counting:handle", "1")
    [victim] = workers_of(server)
    stop_process(victim)
    before = descriptors(server.pid)
    with server.connect() as client:
        wait_until(lambda: descriptors(server.pid) > before)
        os.kill(victim, signal.SIGKILL)
        pid = int(read_line(client).split()[0])
        end = end_of(server, peer_of(client))
    assert (end["pid"], end["exit"], end["signal"]) == (pid, 0, None)
    assert pid != victim
    assert ended_workers(server, pid=victim, outcome="signal SIGKILL")


def test_a_worker_that_ends_itself_is_replaced(serve: Serve) -> None:
    server = start_pool(serve, "failing:handle", "1")
    for code in (b"_exit 4\n", b"kill\n"):
        assert server.exchange(code) == b"read\n"
    assert server.exchange(b"end\n") == b"read\n"
    ended = server.wait_for_event("end", 3)
    assert [(end["exit"], end["signal"]) for end in ended] == [(4, None), (None, "SIGKILL"), (0, None)]
    server.wait_for_event("worker-ended", 2)
    assert [record["outcome"] for record in ended_workers(server, asked=False)] == ["exit 4", "signal SIGKILL"]


def test_a_worker_without_a_free_descriptor_costs_no_client_anything(serve: Serve) -> None:
    server = start_pool(serve, "hoarding:handle", "1", "--rlimit", "nofile=30")
    first, second = said_by(server), said_by(server)
    assert first.strip()
    assert second.strip()


# The spawner killed.


def kill_spawner(server: Server) -> None:
    os.kill(spawner_of(server), signal.SIGKILL)
    server.wait_for_event("spawner-died")
    server.wait_for_event("spawner", 2)


def test_workers_of_a_killed_spawner_serve_their_clients_to_the_end(serve: Serve) -> None:
    server = start_pool(serve, "waiting:handle", "2-4")
    with taken_client(server) as (client, pid):
        old = workers_of(server)
        kill_spawner(server)
        assert answers(client)
        with server.connect() as second:
            assert int(read_line(second)) not in old
            assert answers(second)
        assert answers(client)
        peer = peer_of(client)
    assert (end_of(server, peer)["exit"], end_of(server, peer)["pid"]) == (0, pid)
    wait_until(lambda: all(is_over(pid) for pid in old))


def test_the_only_worker_is_replaced_when_its_spawner_is_killed(serve: Serve) -> None:
    server = start_pool(serve, "waiting:handle", "1")
    with taken_client(server) as (client, old):
        kill_spawner(server)
        assert answers(client)
    with server.connect() as second:
        assert int(read_line(second)) != old


def test_an_orphaned_worker_that_is_killed_in_its_connection_is_replaced(serve: Serve) -> None:
    server = start_pool(serve, "waiting:handle", "1")
    with taken_client(server) as (client, pid):
        kill_spawner(server)
        os.kill(pid, signal.SIGKILL)
        assert client.recv(1) == b""
        end = end_of(server, peer_of(client))
    assert (end["exit"], end["signal"]) == (None, None if server.portable else "SIGKILL")
    with server.connect() as second:
        second.settimeout(5)
        assert int(read_line(second)) != pid


def test_an_orphaned_worker_is_ended_by_a_lifetime(serve: Serve) -> None:
    server = start_pool(serve, "waiting:handle", "1", "--max-lifetime", "600ms")
    with taken_client(server) as (client, _):
        kill_spawner(server)
        assert client.recv(1) == b""
        end = end_of(server, peer_of(client))
    assert (end["signal"], end["ended_by"]) == (None if server.portable else "SIGTERM", "max_lifetime")


# Reloading.


def test_after_a_reload_there_are_as_many_workers_as_before_from_the_start(serve: Serve) -> None:
    server = start_pool(serve, "waiting:handle", "1-4")
    with ExitStack() as stack:
        for client in [stack.enter_context(server.connect()) for _ in range(3)]:
            read_line(client)
        assert ask_for_reload(server)["event"] == "reloaded"
        assert len(children_of(spawner_of(server))) == 3


@contextmanager
def client_taken_after_a_reload(server: Server) -> Iterator[tuple[socket.socket, int]]:
    """A client that the only worker of the old code was offered before a reload, and takes after it."""
    [worker] = workers_of(server)
    before = descriptors(server.pid)
    stop_process(worker)
    with server.connect() as client:
        try:
            wait_until(lambda: descriptors(server.pid) > before)
            assert ask_for_reload(server)["event"] == "reloaded"
        finally:
            os.kill(worker, signal.SIGCONT)
        assert int(read_line(client)) == worker
        yield client, worker


def test_a_client_that_is_taken_after_a_reload_is_served_to_the_end(serve: Serve) -> None:
    server = start_pool(serve, "waiting:handle", "1")
    with client_taken_after_a_reload(server) as (client, worker):
        assert answers(client)
        peer = peer_of(client)
    assert (end_of(server, peer)["exit"], end_of(server, peer)["pid"]) == (0, worker)


def test_a_client_that_is_taken_after_a_reload_is_ended_by_a_stop(serve: Serve) -> None:
    server = start_pool(serve, "waiting:handle", "1", "--drain-timeout", "0", "--kill-timeout", "100ms")
    with client_taken_after_a_reload(server):
        assert server.stop(patience=5) == 0
    (end,) = server.events("end")
    assert (end["signal"], end["ended_by"]) == ("SIGTERM", "stop")


def test_a_client_that_is_taken_after_a_reload_gets_no_second_worker(serve: Serve) -> None:
    server = start_pool(serve, "waiting:handle", "1")
    with client_taken_after_a_reload(server) as (client, worker):
        os.kill(worker, signal.SIGKILL)
        assert client.recv(100) == b""
        end = end_of(server, peer_of(client))
    assert (end["pid"], end["signal"]) == (worker, "SIGKILL")


# Stopping.


def test_a_stop_waits_for_running_conversations(serve: Serve) -> None:
    server = start_pool(serve, "waiting:handle", "2")
    with server.connect() as first, server.connect() as second:
        workers = sorted(int(read_line(client)) for client in (first, second))
        server.signal(Signals.SIGTERM)
        server.wait_for_event("closed")
        assert answers(first)
        assert answers(second)
        assert server.process.poll() is None
    assert server.wait() == 0
    assert sorted(end["pid"] for end in server.events("end")) == workers
    assert {(end["exit"], end["ended_by"]) for end in server.events("end")} == {(0, None)}
    assert all(is_over(pid) for pid in workers)
    assert server.noise == []


def test_a_stop_serves_those_who_are_queued(serve: Serve) -> None:
    server = start_pool(serve, "waiting:handle", "1")
    with server.connect() as first, server.connect() as second, server.connect() as third:
        read_line(first)
        server.signal(Signals.SIGTERM)
        server.wait_for_event("stopping")
        for before, client in ((first, second), (second, third)):
            before.close()
            read_line(client)
            assert answers(client)
    assert server.wait() == 0
    (last,) = server.events("stopped")
    assert (last["accepted"], last["ended"]) == (3, 3)


def test_after_the_drain_timeout_workers_in_a_connection_get_sigterm(serve: Serve) -> None:
    server = start_pool(serve, "waiting:handle", "2", "--drain-timeout", "0", "--kill-timeout", "1h")
    with server.connect() as client:
        read_line(client)
        assert server.stop() == 0
        assert client.recv(1) == b""
    (end,) = server.events("end")
    assert (end["signal"], end["ended_by"]) == ("SIGTERM", "stop")


@pytest.mark.parametrize("serve", ["full"], indirect=True)
def test_a_worker_that_stands_still_does_not_keep_the_server_from_stopping(serve: Serve) -> None:
    server = start_pool(serve, "waiting:handle", "2")
    victim = workers_of(server)[0]
    stop_process(victim)
    try:
        assert server.stop(patience=15) == 0
    finally:
        if not is_over(victim):
            os.kill(victim, signal.SIGKILL)


_THIEF = f"""
import array, os, select, socket, sys
sys.path.insert(0, {str(HERE.parent)!r})
from tests.hostile.attacker.channel import ENDED, channel, tell

def handle(conn):
    if not conn.id.endswith("-1"):
        conn.write(b"another\\n")
        return
    conn.read(5)
    conn.write(b"begun\\n")
    conn.socket.shutdown(socket.SHUT_RDWR)
    tell([ENDED, int(conn.id.split("-")[1]), 0, 0.0, None])
    line = channel()
    select.select([line], [], [])
    _, passed, _, _ = line.recvmsg(65536, 4096, socket.MSG_PEEK)
    numbers = array.array("i", passed[0][2])
    socket.socket(fileno=numbers[0]).sendall(b"the thief\\n")
    os._exit(0)
"""


@pytest.mark.parametrize("serve", ["full"], indirect=True)
def test_a_client_whose_worker_has_taken_an_offer_without_reading_it_is_served_once(
    serve: Serve, tmp_path: Path
) -> None:
    (tmp_path / "thief.py").write_text(_THIEF)
    server = serve("127.0.0.1:0", "--handler", f"{tmp_path}/thief.py:handle", "--mode", "pool", "--workers", "1")
    with server.connect() as first, server.connect() as second:
        first.sendall(b"begin")
        assert read_all(first) == b"begun\n"
        assert read_all(second) == b"the thief\n"

"""Loads by real clients: every byte verified, every connection in exactly one end record, nothing left over."""

import json
import os
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import Signals
from typing import Any

import pytest

from tests.support.server import Server, descendants, descriptors, stat_fields, wait_until

CLIENTS = 64
CONNECTIONS = 20_000
PATIENCE = 300.0

pytestmark = pytest.mark.timeout(PATIENCE)
Outcome = dict[str, Any]


def start_load(load: Path, server: Server, *more: object) -> "subprocess.Popen[bytes]":
    port = server.address[1]
    command = [str(load), str(port), str(CLIENTS), str(CONNECTIONS), *map(str, more)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def outcome_of(running: "subprocess.Popen[bytes]") -> Outcome:
    output, _ = running.communicate(timeout=PATIENCE)
    outcome: Outcome = json.loads(output)
    return outcome


def run_load(load: Path, server: Server) -> Outcome:
    return outcome_of(start_load(load, server))


def assert_books_balance(server: Server, outcome: Outcome) -> None:
    """Every connection that was accepted is in exactly one record, and no client was left without one."""
    ended = server.wait_for_event("end", outcome["done"], PATIENCE)
    ids = Counter(record["id"] for record in ended)
    assert len(ids) == len(ended) == outcome["done"]
    assert not server.events("refused")


def assert_nothing_is_left(server: Server, descriptors_before: int) -> None:
    """No zombie, no child, no descriptor: what there was before the load is what there is after it."""
    wait_until(lambda: all(is_spawner(pid) for pid in descendants(server.pid)))
    assert not [pid for pid in descendants(server.pid) if stat_fields(pid)[:1] == ["Z"]]
    spawners = len(list(descendants(server.pid)))
    # A channel and a log for each spawner beyond the first.
    wait_until(lambda: descriptors(server.pid) == descriptors_before + 2 * (spawners - 1))


def is_spawner(pid: int) -> bool:
    try:
        return b"tcppar: spawner" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return True


def assert_stops_clean(server: Server, outcome: Outcome) -> None:
    assert server.stop() == 0
    (last,) = server.events("stopped")
    assert last["accepted"] == last["ended"] == outcome["done"]
    assert server.noise == []


@contextmanager
def storm(pid: int, signals: list[Signals], a_second: int) -> Iterator[Counter[Signals]]:
    """Send signals in turns, so many a second in all, until the block ends."""
    sent: Counter[Signals] = Counter()
    over = threading.Event()

    def send() -> None:
        while not over.wait(len(signals) / a_second):
            for number in signals:
                os.kill(pid, number)
                sent[number] += 1

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield sent
    finally:
        over.set()
        thread.join()


def test_20_000_connections_leave_nothing_behind(serve: Callable[..., Server], load: Path, echo: Path) -> None:
    server = serve("127.0.0.1:0", "--", echo)
    before = descriptors(server.pid)
    outcome = run_load(load, server)
    assert outcome["failed"] == 0, outcome
    assert_books_balance(server, outcome)
    assert_nothing_is_left(server, before)
    assert_stops_clean(server, outcome)


def test_100_resets_under_load_lose_nobody(load: Path, echo: Path) -> None:
    with Server("127.0.0.1:0", "--", echo) as server:
        before = descriptors(server.pid)
        running = start_load(load, server, 25)
        for number in range(1, 101):
            server.signal(signal.SIGUSR1)
            server.wait_for_event("reset", number)
        outcome = outcome_of(running)
        assert outcome["failed"] == 0, outcome
        assert all(record["lossless"] for record in server.events("reset"))
        assert_books_balance(server, outcome)
        assert_nothing_is_left(server, before)
        assert_stops_clean(server, outcome)


def test_resets_in_the_portable_profile_lose_clients_at_most(load: Path, echo: Path) -> None:
    with Server("127.0.0.1:0", "--", echo, portable=True) as server:
        before = descriptors(server.pid)
        running = start_load(load, server)
        for number in range(1, 101):
            server.signal(signal.SIGUSR1)
            server.wait_for_event("reset", number)
        outcome = outcome_of(running)
        # The system resets those that were queued in the moment of the close, and refuses those that come then.
        assert outcome["cut"] == outcome["different"] == 0, outcome
        served = server.wait_for_event("end", outcome["done"] - outcome["failed"], PATIENCE)
        assert len({record["id"] for record in served}) == len(served)
        assert_nothing_is_left(server, before)
        assert server.stop() == 0
        (last,) = server.events("stopped")
        assert last["accepted"] == last["ended"] == len(server.events("end"))


def test_a_storm_of_signals_changes_nothing(
    serve: Callable[..., Server], load: Path, echo: Path, tmp_path: Path
) -> None:
    file = tmp_path / "tcppar.toml"
    file.write_text(f'[service.echo]\nlisten = ["127.0.0.1:0"]\ncommand = ["{echo}"]\n')
    server = serve("-c", file)
    resets = [] if server.portable else [Signals.SIGUSR1]
    with storm(server.pid, [Signals.SIGCHLD, *resets, Signals.SIGHUP, Signals.SIGWINCH], 1000) as sent:
        outcome = run_load(load, server)
        wait_until(lambda: min(sent.values()) > 100)  # how many a second is a matter of the machine
    assert outcome["failed"] == 0, outcome
    assert_books_balance(server, outcome)
    assert server.events("reloaded")
    assert_stops_clean(server, outcome)

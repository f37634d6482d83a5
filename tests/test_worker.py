"""A worker, whichever spawner it comes from: what it makes of orders, and what it reports."""

import errno
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tcppar.net.channel import ChannelClosed
from tcppar.net.platform import PORTABLE, detect
from tcppar.records import Busy, Deliver, Ended, HandlerMode, Hire, Leaving, Offer, Order, Ready, Retire, Taken
from tcppar.spawner import zygote
from tests.conftest import unavailable
from tests.support.handlers import answers, is_over
from tests.support.server import PATIENCE, descriptors, read_line, wait_until
from tests.support.spawner import UNIX, Hired, Spawner

LENGTH = 4
Start = Callable[..., Spawner]


@pytest.fixture(params=["lean", "portable"])
def start(request: pytest.FixtureRequest) -> Iterator[Start]:
    """Starts spawners of both kinds, and ends them after the test."""
    if request.param == "lean" and not zygote.AVAILABLE:
        unavailable("the loop was not compiled: the one in Python is used")
    features = detect({}) if request.param == "lean" else PORTABLE
    started: list[Spawner] = []

    def start_one(target: str = "waiting:handle", **more: Any) -> Spawner:
        spawner = Spawner(target, HandlerMode.POOL, features, **more)
        started.append(spawner)
        spawner.reported(Ready)
        return spawner

    yield start_one
    for spawner in started:
        assert spawner.close() == 0


@pytest.fixture
def spawner(start: Start) -> Spawner:
    return start()


@pytest.fixture
def hire(request: pytest.FixtureRequest) -> Iterator[Callable[[Spawner], Hired]]:
    """Has workers made, which need not tell of what they take, and lets them go after the test."""
    hired: list[Hired] = []

    def hire_one(spawner: Spawner) -> Hired:
        hired.append(spawner.hire(-1 - len(hired), tells=False))
        return hired[-1]

    yield hire_one
    for worker in hired:
        worker.leave()


@pytest.fixture
def worker(spawner: Spawner, hire: Callable[[Spawner], Hired]) -> Hired:
    return hire(spawner)


def serves(worker: Hired, number: int, **more: Any) -> None:
    """It serves a connection, and says so."""
    with worker.offer(number, **more) as client:
        assert int(read_line(client)) == worker.pid
        assert answers(client)
    ended = worker.reported(Ended)
    assert (ended.number, ended.status, ended.peak_memory_kb) == (number, 0, None)
    assert ended.cpu_seconds >= 0


def test_a_descriptor_that_no_order_asks_for_is_closed(spawner: Spawner) -> None:
    ours, its = socket.socketpair()
    with ours:
        with its:
            spawner.channel.send(Deliver(-9, signal.SIGTERM), its.fileno())
        ours.settimeout(PATIENCE)
        assert ours.recv(1) == b"", "it is kept"


def test_it_serves_one_connection_after_the_other(worker: Hired) -> None:
    for number in (1, 2, 2**40):
        serves(worker, number)


def test_it_has_nothing_of_its_spawners_nor_of_others(spawner: Spawner, hire: Callable[[Spawner], Hired]) -> None:
    for worker in [hire(spawner) for _ in range(3)]:
        serves(worker, 1)
        assert descriptors(worker.pid) == 4  # 0, 1, 2 and its channel
        assert os.getpgid(worker.pid) == worker.pid


def test_the_very_offer_that_it_had_last_is_passed_over(worker: Hired) -> None:
    serves(worker, 1, attempt=1)
    again = worker.offer(1, attempt=1, again=True)
    assert again.recv(1) == b""  # its descriptor is closed
    # Another attempt is another offer; and so is one of which it is not said that it may have been sent.
    serves(worker, 1, attempt=2, again=True)
    serves(worker, 1, attempt=2)


def test_one_whose_descriptor_got_lost_is_told_and_the_worker_leaves(worker: Hired) -> None:
    worker.channel.send(Offer(7, UNIX, attempt=3))
    assert worker.report() == Leaving()
    assert worker.report() == Busy(7, errno.EMFILE, "recvmsg", 3)
    with pytest.raises(ChannelClosed):
        worker.channel.receive()


def test_a_worker_whose_channel_got_lost_is_not_made(spawner: Spawner) -> None:
    spawner.channel.send(Hire(-7))
    assert spawner.report() == Busy(-7, errno.EMFILE, "recvmsg", 0)


def test_who_is_to_tell_tells_of_each_connection_before_it_is_served() -> None:
    """A lean spawner makes workers for those alone who see what has been read."""
    spawner = Spawner("waiting:handle", HandlerMode.POOL, PORTABLE)
    spawner.reported(Ready)
    worker = spawner.hire(-1, tells=True)
    client = worker.offer(1)
    assert worker.report() == Taken(1, worker.pid, 0.0)
    client.close()
    assert worker.reported(Ended).number == 1
    worker.leave()
    assert spawner.close() == 0


def framed(order: Order) -> bytes:
    body = msgspec.msgpack.encode(order)
    return len(body).to_bytes(LENGTH, "big") + body


def test_orders_may_come_in_pieces_or_together(worker: Hired) -> None:
    ours, its = socket.socketpair()
    stream = framed(Offer(1, UNIX)) + framed(Retire())
    with ours, its:
        socket.send_fds(worker.end, [stream[:1]], [its.fileno()])
        its.close()
        for byte in stream[1:9]:
            worker.end.sendall(bytes([byte]))
        worker.end.sendall(stream[9:])
        assert int(read_line(ours)) == worker.pid
    assert worker.reported(Ended).number == 1
    with pytest.raises(ChannelClosed):
        worker.channel.receive()


def test_one_that_retires_ends_after_its_connection(spawner: Spawner, worker: Hired) -> None:
    client = worker.offer(1)
    read_line(client)
    worker.channel.send(Retire())
    assert answers(client)
    client.close()
    assert worker.reported(Ended).number == 1
    with pytest.raises(ChannelClosed):
        worker.channel.receive()
    ended = spawner.reported(Ended)
    assert (ended.number, ended.status) == (-1, 0)


def test_one_that_has_had_enough_connections_says_that_it_leaves_before_it_says_that_the_last_has_ended(
    start: Start, hire: Callable[[Spawner], Hired]
) -> None:
    worker = hire(start(handler={"connections_per_worker": 2}))
    serves(worker, 1)
    worker.offer(2).close()
    assert worker.report() == Leaving()
    assert worker.reported(Ended).number == 2


def test_one_whose_memory_has_grown_too_large_leaves(start: Start, hire: Callable[[Spawner], Hired]) -> None:
    worker = hire(start(handler={"worker_memory_kb": 1}))
    worker.offer(1).close()
    assert worker.report() == Leaving()


def test_it_ends_when_the_supervisor_is_gone(worker: Hired) -> None:
    client = worker.offer(1)
    read_line(client)
    worker.end.close()
    assert answers(client)
    assert not is_over(worker.pid)
    client.close()
    wait_until(lambda: is_over(worker.pid))


@pytest.mark.parametrize("what", [b"\xff" * 64, (1 << 20).to_bytes(LENGTH, "big") * 5000])
def test_what_is_no_order_ends_it(what: bytes, worker: Hired) -> None:
    try:
        worker.end.sendall(what)
    except OSError:
        pass  # it did not read to the end
    worker.end.close()
    wait_until(lambda: is_over(worker.pid))


def test_a_signal_is_delivered_to_its_process_group(spawner: Spawner, worker: Hired) -> None:
    client = worker.offer(1)
    read_line(client)
    spawner.channel.send(Deliver(-1, signal.SIGTERM))
    ended = spawner.reported(Ended)
    assert (ended.number, ended.status) == (-1, signal.SIGTERM)
    assert client.recv(1) == b""


def test_threads_and_signals_handlers_of_a_handlers_go_on_while_it_waits(
    start: Start, hire: Callable[[Spawner], Hired], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, let = tmp_path / "told", tmp_path / "let"
    os.mkfifo(let)
    monkeypatch.setenv("TOLD", str(told))
    monkeypatch.setenv("LET", str(let))
    worker = hire(start("threading_on:handle"))
    worker.offer(1)
    worker.reported(Ended)
    let.write_text("let")
    wait_until(lambda: told.exists() and told.read_text() == "let\n")
    os.kill(worker.pid, signal.SIGUSR1)
    wait_until(lambda: told.read_text() == "let\nsignalled\n")
    worker.offer(2)
    assert worker.reported(Ended).number == 2

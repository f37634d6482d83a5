"""The calls that each connection costs: what the compiled ones do is what Python's do."""

import errno
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tcppar.net import calls
from tcppar.net.calls import READ_SIZE, Calls
from tests.conftest import unavailable
from tests.support.descriptors import no_descriptor_free
from tests.support.lingering import LINGER, lingering

PATIENCE = 30.0
BODY = b"x" * 1000
LENGTH = len(BODY).to_bytes(4, "big")

Ends = tuple[socket.socket, socket.socket]


@pytest.fixture(params=["plain", "compiled"])
def means(request: pytest.FixtureRequest) -> Calls:
    if request.param == "plain":
        return calls.PLAIN
    return calls.COMPILED if calls.AVAILABLE else unavailable("net/_calls.c was not compiled")


@pytest.fixture
def ends() -> Iterator[Ends]:
    """Of a channel; both wait."""
    ours, its = socket.socketpair()
    with ours, its:
        yield ours, its


def read_exactly(end: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        data += end.recv(size - len(data))
    return bytes(data)


# Frames.


def test_a_frame_is_its_length_and_its_body(means: Calls, ends: Ends) -> None:
    assert means.send(ends[0], BODY, ())
    assert means.read(ends[1], 0) == LENGTH + BODY


def test_an_end_that_waits_sends_all_of_a_frame_that_has_no_room(means: Calls, ends: Ends) -> None:
    """Piece by piece, as it is read; the descriptor goes once."""
    body = os.urandom(4 << 20)
    reader, writer = os.pipe()
    sender = threading.Thread(target=means.send, args=(ends[0], body, (writer,)))
    sender.start()
    first, [passed] = means.receive(ends[1], READ_SIZE)
    rest = read_exactly(ends[1], 4 + len(body) - len(first))
    sender.join(PATIENCE)
    assert (first + rest)[4:] == body
    os.close(writer)
    os.close(passed)
    assert os.read(reader, 1) == b"", "there was a third descriptor"
    os.close(reader)


def fill(end: socket.socket, body: bytes) -> None:
    end.setblocking(False)
    try:
        while True:
            end.send(body)
    except BlockingIOError:
        pass


def test_without_any_room_nothing_is_sent(means: Calls, ends: Ends) -> None:
    fill(ends[0], BODY)
    fill(ends[0], b"x")
    with pytest.raises(BlockingIOError):
        means.send(ends[0], BODY, ())


def test_a_frame_that_has_room_for_a_part_alone_is_told_from_one_that_was_sent(means: Calls, ends: Ends) -> None:
    ends[0].setblocking(False)
    assert not means.send(ends[0], bytes(4 << 20), ())


def test_what_is_looked_at_is_still_there(means: Calls, ends: Ends) -> None:
    ends[0].send(BODY)
    assert means.read(ends[1], socket.MSG_PEEK) == BODY
    assert means.read(ends[1], 0) == BODY


def test_who_reads_alone_drops_the_descriptors_that_come(means: Calls, ends: Ends) -> None:
    reader, writer = os.pipe()
    means.send(ends[0], BODY, (writer,))
    os.close(writer)
    assert means.read(ends[1], 0)[4:] == BODY
    assert os.read(reader, 1) == b"", "somebody has it"
    os.close(reader)


@pytest.mark.parametrize("flags", [0, socket.MSG_PEEK])
@pytest.mark.parametrize("count", [1, 253])
def test_descriptors_that_come_unasked_leave_nothing(flags: int, count: int, means: Calls, ends: Ends) -> None:
    reader, writer = os.pipe()
    before = os.listdir("/proc/self/fd")
    socket.send_fds(ends[0], [BODY], [writer] * count)
    for _ in range(3 if flags else 1):
        assert means.read(ends[1], flags) == BODY
    assert os.listdir("/proc/self/fd") == before
    os.close(reader)
    os.close(writer)


def test_no_descriptor_that_comes_holds_a_reader_up(means: Calls, ends: Ends) -> None:
    """The last of a connection that lingers is closed by whoever reads it."""
    with lingering() as connection:
        socket.send_fds(ends[0], [BODY], [connection.fileno()])
        connection.close()
        started = time.monotonic()
        assert means.read(ends[1], 0) == BODY
        assert time.monotonic() - started < LINGER / 2


@pytest.mark.parametrize(("most", "read"), [(10, 10), (len(BODY) + 1, len(BODY)), (1 << 30, len(BODY))])
def test_no_more_is_read_than_is_asked_for(most: int, read: int, means: Calls, ends: Ends) -> None:
    ends[0].send(BODY)
    assert means.read(ends[1], 0, most) == BODY[:read]


def test_several_descriptors_of_one_message_come_in_their_order(means: Calls, ends: Ends) -> None:
    sent = [os.memfd_create(str(number)) for number in range(5)]
    socket.send_fds(ends[0], [BODY], sent)
    data, came = means.receive(ends[1], READ_SIZE)
    assert data == BODY
    assert [os.fstat(descriptor).st_ino for descriptor in came] == [os.fstat(it).st_ino for it in sent]
    assert not any(os.get_inheritable(descriptor) for descriptor in came)
    for descriptor in sent + came:
        os.close(descriptor)


# Errors.


def test_the_end_of_the_stream_is_empty(means: Calls, ends: Ends) -> None:
    ends[0].close()
    assert means.read(ends[1], 0) == b""
    assert means.receive(ends[1], READ_SIZE) == (b"", [])


def test_nothing_there_is_an_error_where_nobody_waits(means: Calls, ends: Ends) -> None:
    ends[1].setblocking(False)
    for call in (lambda: means.read(ends[1], 0), lambda: means.receive(ends[1], READ_SIZE)):
        with pytest.raises(BlockingIOError):
            call()


def test_the_other_side_is_gone(means: Calls, ends: Ends) -> None:
    ends[1].close()
    with pytest.raises(BrokenPipeError):
        means.send(ends[0], BODY, ())


def test_a_descriptor_that_is_not_open_cannot_be_sent(means: Calls, ends: Ends) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(OSError, match="Bad file") as raised:
        means.send(ends[0], BODY, (reader,))
    os.close(writer)
    assert raised.value.errno == errno.EBADF


def test_an_end_that_is_closed_is_no_descriptor(means: Calls, ends: Ends) -> None:
    ends[0].close()
    attempts: list[Any] = [
        lambda: means.send(ends[0], BODY, ()),
        lambda: means.read(ends[0], 0),
        lambda: means.receive(ends[0], READ_SIZE),
    ]
    for attempt in attempts:
        with pytest.raises(OSError, match="Bad file") as raised:
            attempt()
        assert raised.value.errno == errno.EBADF


# Signals, and threads.


class Interrupted(Exception):
    """What a handler of a signal raises."""


@contextmanager
def signal_while_waiting(handler: Any) -> Iterator[None]:
    """SIGALRM, again and again, for as long as this lasts: one of them comes while the call waits."""
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("call", ["read", "receive"])
def test_a_signal_ends_no_wait(call: str, means: Calls, ends: Ends) -> None:
    """The handler of the third signal sends what is waited for: two at the least come while nothing is there."""
    signals: list[int] = []

    def note(number: int, frame: object) -> None:
        signals.append(number)
        if len(signals) == 3:
            ends[0].send(BODY)

    with signal_while_waiting(note):
        came = means.read(ends[1], 0) if call == "read" else means.receive(ends[1], READ_SIZE)[0]
    assert came == BODY


def test_a_signal_ends_no_wait_for_room(means: Calls, ends: Ends) -> None:
    body = os.urandom(1 << 20)
    came = bytearray()

    def read_some(number: int, frame: object) -> None:
        while select.select([ends[1]], [], [], 0)[0]:
            came.extend(ends[1].recv(1 << 16))

    with signal_while_waiting(read_some):
        assert means.send(ends[0], body, ())
    read_some(0, None)
    assert came[4:] == body


@pytest.mark.parametrize("call", ["send", "read", "receive"])
def test_what_a_signals_handler_raises_is_raised(call: str, means: Calls, ends: Ends) -> None:
    def interrupt(number: int, frame: object) -> None:
        raise Interrupted

    waits: dict[str, Callable[[], object]] = {
        "send": lambda: means.send(ends[0], bytes(4 << 20), ()),
        "read": lambda: means.read(ends[1], 0),
        "receive": lambda: means.receive(ends[1], READ_SIZE),
    }
    with signal_while_waiting(interrupt), pytest.raises(Interrupted):
        waits[call]()


def test_other_threads_run_while_one_waits(means: Calls, ends: Ends) -> None:
    """A handler may have started some in a worker, which waits for its next connection."""
    threading.Timer(0.0, ends[0].send, [BODY]).start()
    assert means.receive(ends[1], READ_SIZE)[0] == BODY


# Connections.


@contextmanager
def one_client(host: str) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A listener that does not wait, and a client in its queue."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
        listener.bind((host, 0))
        listener.listen()
        listener.setblocking(False)
        with socket.create_connection(listener.getsockname()[:2]) as client:
            yield listener, client


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1"])
@pytest.mark.parametrize(("local", "queued"), [(True, True), (True, False), (False, True), (False, False)])
def test_who_accepts_is_told_of_the_peer_and_what_it_asks_for(
    host: str, local: bool, queued: bool, means: Calls
) -> None:
    with one_client(host) as (listener, client):
        descriptor, peer, port, own, seconds = means.accept(listener, local, queued)
        with socket.socket(fileno=descriptor) as connection:
            assert (peer, port) == client.getsockname()[:2]
            assert connection.getpeername() == client.getsockname()
            assert connection.getblocking()
            assert not connection.get_inheritable()
            told = means.look(descriptor, local, queued)
            assert own == told[0] == (host if local else None)
            for figure in (seconds, told[1]):
                assert (figure is not None) is queued
                assert figure is None or 0 <= figure < PATIENCE
            os.fstat(descriptor)  # it is still open


def test_nobody_in_the_queue_is_an_error(means: Calls) -> None:
    with one_client("127.0.0.1") as (listener, _):
        os.close(means.accept(listener, False, False)[0])
        with pytest.raises(BlockingIOError):
            means.accept(listener, False, False)


def test_who_has_no_descriptor_free_accepts_nobody(means: Calls) -> None:
    with one_client("127.0.0.1") as (listener, _):
        with no_descriptor_free(), pytest.raises(OSError, match="Too many open files"):
            means.accept(listener, True, True)
        os.close(means.accept(listener, False, False)[0])


def test_what_is_no_tcp_connection_has_nothing_to_tell(means: Calls, ends: Ends) -> None:
    reader, writer = os.pipe()
    for descriptor in (ends[0].fileno(), reader):
        assert means.look(descriptor, False, True) == (None, None)
    assert means.look(reader, True, True) == (None, None)
    os.close(reader)
    os.close(writer)
    assert means.look(reader, True, True) == (None, None)

"""The channel: whole records in order, each with its descriptor, however the stream is cut."""

import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.msgpack import Decoder

from tcppar.net import calls, channel
from tcppar.net.channel import Channel, ChannelClosed
from tcppar.records import Deliver, Endpoints, Family, Offer, Order, PeerCredentials
from tests.conftest import unavailable
from tests.support.descriptors import no_descriptor_free
from tests.support.lingering import LINGER, lingering

NUMBERS = st.integers(0, 2**32)
ENDPOINTS = st.builds(Endpoints, st.sampled_from(Family), st.text(), st.integers(0, 65535), st.text(), st.just(80))
CREDENTIALS = st.none() | st.builds(PeerCredentials, NUMBERS, NUMBERS, NUMBERS)
DELIVERS = st.builds(Deliver, NUMBERS, st.integers(1, 64))
ORDERS = DELIVERS | st.builds(Offer, NUMBERS, ENDPOINTS, CREDENTIALS)

LOCAL = Endpoints(Family.IPV4, "127.0.0.1", 4000, "127.0.0.1", 80)
OFFERS = [Offer(number, LOCAL) for number in range(5)]


# Hypothesis repeats a test without its fixtures, so that there is one for the module, and what it says stands here.
_means = [calls.PLAIN]


@pytest.fixture(autouse=True, scope="module", params=["plain", "compiled"])
def means(request: pytest.FixtureRequest) -> None:
    """Both ways to make the calls."""
    if request.param == "compiled" and not calls.AVAILABLE:
        unavailable("net/_calls.c was not compiled: the socket module is used")
    _means[0] = calls.PLAIN if request.param == "plain" else calls.COMPILED


def channel_on(end: socket.socket) -> Channel[Order]:
    return Channel(end, Decoder(Order), _means[0])


@contextmanager
def two_ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A channel's two ends; a receiver with nothing to read says so."""
    sending, receiving = channel.pair()
    receiving.setblocking(False)
    with sending, receiving:
        yield sending, receiving


Ends = tuple[socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    with two_ends() as both:
        yield both


def stream_of(orders: Sequence[Order]) -> bytes:
    """What goes over the wire for these."""
    with two_ends() as (sending, receiving):
        for order in orders:
            channel_on(sending).send(order)
        return receiving.recv(1 << 20)


def received_in_pieces(pieces: Sequence[bytes]) -> list[Order]:
    """What is received of a stream that comes in pieces, each read before the next one comes."""
    with two_ends() as (sending, receiving):
        receiver = channel_on(receiving)
        orders: list[Order] = []
        for piece in pieces:
            sending.sendall(piece)
            orders += receiver.receive()
        return orders


# Frames.


def test_a_stream_may_be_cut_at_any_byte() -> None:
    orders: list[Order] = [OFFERS[0], Deliver(1, 15), OFFERS[2]]
    stream = stream_of(orders)
    for cut in range(1, len(stream)):
        assert received_in_pieces([stream[:cut], stream[cut:]]) == orders


def test_a_stream_may_come_byte_by_byte() -> None:
    orders: list[Order] = [OFFERS[0], Deliver(1, 15)]
    stream = stream_of(orders)
    assert received_in_pieces([stream[at : at + 1] for at in range(len(stream))]) == orders


@given(st.lists(ORDERS, min_size=1, max_size=10), st.data())
def test_wherever_a_stream_is_cut_all_records_come_whole_and_in_order(orders: list[Order], data: st.DataObject) -> None:
    stream = stream_of(orders)
    cuts = data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=10))
    pieces = [stream[start:end] for start, end in pairwise([0, *sorted(cuts), len(stream)])]
    assert received_in_pieces(pieces) == orders


@pytest.mark.parametrize("size", [0, 1, 200_000])
def test_one_frame_is_read_without_what_follows(size: int) -> None:
    sending, receiving = channel.pair()
    with sending, receiving:
        first = Offer(1, Endpoints(Family.UNIX, "x" * size, 0, "", 0))
        stream = stream_of([first, OFFERS[1]])
        sender = threading.Thread(target=sending.sendall, args=(stream,))
        sender.start()
        assert channel_on(receiving).receive_one() == first
        assert channel_on(receiving).receive() == [OFFERS[1]]
        sender.join()


def test_one_read_takes_all_records_that_are_there(ends: Ends) -> None:
    for order in OFFERS:
        channel_on(ends[0]).send(order)
    assert channel_on(ends[1]).receive() == OFFERS


def test_a_record_is_handed_out_as_soon_as_it_is_whole_though_the_next_one_is_not() -> None:
    stream = stream_of(OFFERS[:2])
    assert received_in_pieces([stream[:-1]]) == OFFERS[:1]


def test_a_record_longer_than_a_read_comes_in_several(ends: Ends) -> None:
    long: Order = Offer(1, Endpoints(Family.UNIX, "x" * 100_000, 0, "y", 0))
    channel_on(ends[0]).send(long)
    receiver, received = channel_on(ends[1]), list[Order]()
    while not received:
        received = receiver.receive()
    assert received == [long]


def test_both_ends_close_on_exec(ends: Ends) -> None:
    assert [end.get_inheritable() for end in ends] == [False, False]


# Descriptors.


@pytest.fixture
def files(tmp_path: Path) -> Iterator[list[int]]:
    """Descriptors of as many files as there are offers."""
    descriptors = [os.open(tmp_path / str(offer.number), os.O_CREAT | os.O_RDWR) for offer in OFFERS]
    yield descriptors
    for descriptor in descriptors:
        os.close(descriptor)


def inode(descriptor: int) -> int:
    return os.fstat(descriptor).st_ino


def inodes_of(descriptors: Sequence[int]) -> list[int]:
    """The files that received descriptors are of; closes them."""
    found = [inode(descriptor) for descriptor in descriptors]
    for descriptor in descriptors:
        os.close(descriptor)
    return found


def test_a_descriptor_comes_with_its_record_and_not_with_another(ends: Ends, files: list[int]) -> None:
    sender, receiver = channel_on(ends[0]), channel_on(ends[1])
    for offer, file in zip(OFFERS, files, strict=True):
        sender.send(Deliver(offer.number, 15))
        sender.send(offer, file)
        sender.send(Deliver(offer.number, 9))
    came: list[tuple[int, int]] = []
    while len(came) < len(OFFERS):
        orders, descriptors = receiver.receive_with_descriptors()
        offered = [order.number for order in orders if isinstance(order, Offer)]
        came += zip(offered, inodes_of(descriptors), strict=True)
    assert came == [(offer.number, inode(file)) for offer, file in zip(OFFERS, files, strict=True)]


def test_the_sender_keeps_its_own_descriptor_and_a_received_one_outlives_it(ends: Ends) -> None:
    reader, writer = os.pipe()
    channel_on(ends[0]).send(OFFERS[0], writer)
    os.write(writer, b"before ")
    os.close(writer)
    _, [received] = channel_on(ends[1]).receive_with_descriptors()
    os.write(received, b"and after")
    os.close(received)
    assert os.read(reader, 100) == b"before and after"
    os.close(reader)


def test_a_received_descriptor_closes_on_exec(ends: Ends, files: list[int]) -> None:
    channel_on(ends[0]).send(OFFERS[0], files[0])
    _, [received] = channel_on(ends[1]).receive_with_descriptors()
    inheritable = os.get_inheritable(received)
    os.close(received)
    assert not inheritable


def test_a_receiver_without_a_free_descriptor_gets_the_record_alone(ends: Ends, files: list[int]) -> None:
    channel_on(ends[0]).send(OFFERS[0], files[0])
    with no_descriptor_free():
        assert channel_on(ends[1]).receive_with_descriptors() == ([OFFERS[0]], [])


# The other side.

RECEIVE: list[Callable[[Channel[Order]], object]] = [Channel.receive, Channel.receive_with_descriptors]


@pytest.mark.parametrize("receive", RECEIVE)
def test_nothing_there_is_no_end(receive: Callable[[Channel[Order]], object], ends: Ends) -> None:
    with pytest.raises(BlockingIOError):
        receive(channel_on(ends[1]))


@pytest.mark.parametrize("receive", RECEIVE)
@pytest.mark.parametrize("left_over", [0, 1, 7])
def test_a_side_that_is_gone_is_told_after_all_that_it_sent(
    receive: Callable[[Channel[Order]], object], left_over: int, ends: Ends
) -> None:
    receiver, stream = channel_on(ends[1]), stream_of(OFFERS)
    ends[0].sendall(stream + stream[:left_over])
    ends[0].close()
    assert receiver.receive() == OFFERS
    with pytest.raises(ChannelClosed, match="end of stream"):
        receive(receiver)


def test_sending_to_a_side_that_is_gone_is_an_error_and_not_a_signal(ends: Ends, files: list[int]) -> None:
    ends[1].close()
    with closing(channel_on(ends[0])) as sender:
        with pytest.raises(BrokenPipeError):
            sender.send(OFFERS[0])
        with pytest.raises(BrokenPipeError):
            sender.send(OFFERS[0], files[0])


@pytest.mark.parametrize(
    "body", [b"\xc1", b"\x93\x01", b"\x81\x01\x02", b"\x93\x09\x01\x02", b"GET / HTTP/1.0"], ids=repr
)
def test_a_frame_that_is_no_record_ends_the_channel(body: bytes, ends: Ends) -> None:
    ends[0].sendall(len(body).to_bytes(4, "big") + body)
    with pytest.raises(ChannelClosed, match="cannot be read"):
        channel_on(ends[1]).receive()


def test_a_stream_that_is_not_of_frames_ends_the_channel(ends: Ends) -> None:
    ends[0].sendall(b"GET / HTTP/1.0\r\n\r\n")
    with pytest.raises(ChannelClosed):
        channel_on(ends[1]).receive()


# Descriptors for somebody who takes none.


def test_the_supervisors_end_gets_no_descriptor_where_that_can_be_forbidden(ends: Ends, files: list[int]) -> None:
    try:
        socket.send_fds(ends[1], [b"report"], files[:1])
    except PermissionError:
        return
    if tuple(map(int, re.findall(r"\d+", os.uname().release)[:2])) >= (6, 16):
        pytest.fail("a descriptor was sent")
    unavailable("this kernel cannot forbid it")


@pytest.mark.parametrize("looks", [False, True])
def test_what_is_unread_when_it_is_closed_holds_nobody_up(looks: bool) -> None:
    ours, its = socket.socketpair()
    with its, lingering() as connection, closing(channel_on(ours)) as receiver:
        socket.send_fds(its, [stream_of(OFFERS)], [connection.fileno()])
        socket.send_fds(its, [stream_of(OFFERS)], [connection.fileno()])
        connection.close()
        if looks:
            assert receiver.look() == OFFERS
        started = time.monotonic()
        receiver.close()
        assert time.monotonic() - started < LINGER / 2


def test_what_was_looked_at_and_is_let_go_of_holds_nobody_up() -> None:
    ours, its = socket.socketpair()
    with its, lingering() as connection, closing(channel_on(ours)) as receiver:
        socket.send_fds(its, [stream_of(OFFERS)], [connection.fileno()])
        connection.close()
        assert receiver.look() == OFFERS
        started = time.monotonic()
        receiver.forget()
        assert time.monotonic() - started < LINGER / 2


# A receiver that does not read.


def bytes_left_in(end: socket.socket) -> int:
    """How much there is to read until the end of the stream; what comes along is closed."""
    total = 0
    while True:
        data, descriptors, _, _ = socket.recv_fds(end, 1 << 16, 8)
        inodes_of(descriptors)
        if not data:
            return total
        total += len(data)


def send_until_full(sender: Channel[Order], order: Order, *descriptors: int) -> int:
    """How many could be sent to a side that does not read."""
    sent = 0
    try:
        while True:
            sender.send(order, *descriptors)
            sent += 1
    except BlockingIOError:
        return sent


# What is sent without waiting is short. The plan, which has the whole environment in it, is sent by waiting for room.
@pytest.mark.usefixtures("many_descriptors")  # which bounds those under way too (unix(7), ETOOMANYREFS)
@pytest.mark.parametrize(("size", "with_descriptor"), [(1, True), (1_000, True), (1, False), (1_000, False)])
def test_what_is_not_sent_for_want_of_room_is_not_sent_in_part(
    size: int, with_descriptor: bool, ends: Ends, files: list[int]
) -> None:
    ends[0].setblocking(False)
    order: Order = Offer(1, Endpoints(Family.UNIX, "x" * size, 0, "y", 0))
    sent = send_until_full(channel_on(ends[0]), order, *files[: int(with_descriptor)])
    ends[0].close()
    assert sent > 0
    assert bytes_left_in(ends[1]) == sent * len(stream_of([order]))

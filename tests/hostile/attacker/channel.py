"""What a worker sends that is not a report, and what it does to its channel."""

import array
import fcntl
import os
import random
import signal
import socket
import time
from collections.abc import Iterator, Sequence

from tests.hostile.attacker.base import WORKER, Me, attack

READY, REFUSED, TAKEN, BUSY, FAILED, ENDED, LEAVING = range(1, 8)  # tags of records.py
ALONE = "The worker is ended; another one takes its place."
IN_TIME = "The worker is ended, by max_lifetime at the latest; a client who is offered to it gets another worker."


def channels() -> Iterator[socket.socket]:
    """Each end of a Unix socket that this process has, but for what is its input and its output."""
    for name in os.listdir("/proc/self/fd"):
        try:
            found = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue
        if found.family == socket.AF_UNIX and found.type == socket.SOCK_STREAM and int(name) > 2:
            yield found


def channel() -> socket.socket:
    """The worker's own."""
    return next(channels())


def packed(value: object) -> bytes:
    """As MessagePack, in the longest forms."""
    if value is None:
        return b"\xc0"
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return b"\xd3" + value.to_bytes(8, "big", signed=True) if value < 2**63 else b"\xcf" + value.to_bytes(8, "big")
    if isinstance(value, float):
        return b"\xca\x00\x00\x00\x00"
    if isinstance(value, str):
        return packed_bytes(b"\xdb", value.encode())
    assert isinstance(value, list | tuple)
    return b"\xdd" + len(value).to_bytes(4, "big") + b"".join(map(packed, value))


def packed_bytes(kind: bytes, data: bytes) -> bytes:
    """A text or bytes, with its length."""
    return kind + len(data).to_bytes(4, "big") + data


def framed(body: bytes) -> bytes:
    """With its length in front."""
    return len(body).to_bytes(4, "big") + body


def report(*reports: Sequence[object]) -> bytes:
    """A frame of reports."""
    return framed(packed(reports))


def tell(*reports: Sequence[object]) -> None:
    """Say it."""
    channel().sendall(report(*reports))


def my_number(me: Me) -> int:
    """The number of the connection, which its id ends with."""
    return me.facts["number"]


# Frames that are none.


@attack(WORKER, "The server does not wait for the rest, and does not spin; a stop is not held up.")
def half_a_frame(me: Me) -> None:
    """A worker sends three bytes of a frame and no more."""
    channel().sendall(b"\x00\x00\x00")
    me.hold()


@attack(WORKER, ALONE)
def half_a_frame_and_exit(me: Me) -> None:
    """A worker sends a half of a report, and ends."""
    channel().sendall(report([LEAVING])[:-1])


@attack(WORKER, ALONE)
def a_frame_byte_by_byte(me: Me) -> None:
    """A worker sends a report of a megabyte, a byte at a time, without end."""
    mine = channel()
    mine.sendall((1 << 20).to_bytes(4, "big") + b"\xdd")
    me.say("done")
    until = time.monotonic() + 10
    while time.monotonic() < until:
        mine.sendall(b"\x00")
        time.sleep(0.01)


@attack(WORKER, ALONE)
def a_frame_of_16_megabytes(me: Me) -> None:
    """A worker sends a frame as large as a frame may be."""
    channel().sendall(framed(packed_bytes(b"\xc6", bytes((1 << 24) - 5))))
    me.hold()


@attack(WORKER, ALONE)
def a_frame_of_4_gigabytes(me: Me) -> None:
    """A worker announces a frame of 4 GB, and begins to send it."""
    mine = channel()
    mine.sendall(b"\xff\xff\xff\xff")
    for _ in range(64):
        mine.sendall(bytes(1 << 16))
    me.hold()


@attack(WORKER, ALONE)
def garbage(me: Me) -> None:
    """A worker sends random bytes."""
    channel().sendall(random.Random(1).randbytes(1 << 16))
    me.hold()


@attack(WORKER, ALONE)
def nested_without_end(me: Me) -> None:
    """A worker sends lists in lists, a hundred thousand deep."""
    channel().sendall(framed(b"\x91" * 100_000 + b"\xc0"))
    me.hold()


@attack(WORKER, ALONE)
def a_list_of_four_billion(me: Me) -> None:
    """A worker sends a list that is said to have four billion elements."""
    channel().sendall(framed(b"\xdd\xff\xff\xff\xff" + b"\xc0" * 100))
    me.hold()


@attack(WORKER, ALONE)
def a_text_of_no_language(me: Me) -> None:
    """A worker sends texts that are not UTF-8, and one of ten megabytes."""
    mine = channel()
    mine.sendall(framed(b"\x91\x93\x05" + packed(my_number(me)) + packed_bytes(b"\xdb", b"\xff\xfe\xed\xa0\x80")))
    mine.sendall(report([FAILED, my_number(me), "x" * 10_000_000]))
    me.hold()


@attack(WORKER, IN_TIME)
def a_hundred_thousand_reports(me: Me) -> None:
    """A worker sends a hundred thousand reports as fast as they are read."""
    mine, thousand = channel(), report(*([READY, [], os.getpid()] for _ in range(1000)))
    for _ in range(100):
        mine.sendall(thousand)
    me.hold()


@attack(WORKER, "The server gives other channels their turns, and stays below half of a processor's time.")
def empty_frames_without_end(me: Me) -> None:
    """A worker sends frames without a report for as long as it lives."""
    mine, many = channel(), report() * 1000
    me.say("done")
    until = time.monotonic() + 10
    while time.monotonic() < until:
        mine.sendall(many)


# The socket itself.


@attack(WORKER, "The server keeps none of the descriptors.")
def descriptors_with_a_frame(me: Me) -> None:
    """A worker sends two hundred descriptors with each of fifty reports."""
    mine = channel()
    many = array.array("i", [me.connection] * 200).tobytes()
    for _ in range(50):
        mine.sendmsg([report()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, many)])
    me.hold()


@attack(WORKER, ALONE)
def channel_shut_down(me: Me) -> None:
    """A worker shuts its channel down, and stays."""
    channel().shutdown(socket.SHUT_RDWR)
    me.hold()


@attack(WORKER, ALONE)
def channel_shut_down_for_writing(me: Me) -> None:
    """A worker shuts the way to the supervisor down, and stays."""
    channel().shutdown(socket.SHUT_WR)
    me.hold()


@attack(WORKER, IN_TIME, stays=True)
def channel_shut_down_for_reading(me: Me) -> None:
    """A worker shuts the way from the supervisor down, says that its connection has ended, and stays."""
    channel().shutdown(socket.SHUT_RD)
    tell([ENDED, my_number(me), 0, 0.0, None])
    me.hold()


@attack(WORKER, ALONE)
def channel_closed(me: Me) -> None:
    """A worker closes its channel, and stays."""
    for descriptor in [int(name) for name in os.listdir("/proc/self/fd")]:
        if descriptor > 2 and descriptor != me.connection:
            me.try_to(lambda descriptor=descriptor: os.close(descriptor))  # type: ignore[misc]
    me.hold()


@attack(WORKER, "The server waits neither for room nor for what is there: its own end is another one.")
def channel_with_other_flags(me: Me) -> None:
    """A worker sets O_NONBLOCK and O_ASYNC on its channel, and asks for signals to the supervisor."""
    mine = channel()
    fcntl.fcntl(mine, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
    me.try_to(lambda: fcntl.fcntl(mine, fcntl.F_SETSIG, signal.SIGKILL))
    me.try_to(lambda: fcntl.fcntl(mine, fcntl.F_SETOWN, me.facts["supervisor"]))
    me.hold()


@attack(WORKER, IN_TIME, stays=True)
def channel_without_room(me: Me) -> None:
    """A worker makes the buffers of its channel as small as they can be, says that it is idle, and does not read."""
    mine = channel()
    mine.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    mine.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    tell([ENDED, my_number(me), 0, 0.0, None])
    me.hold()


@attack(WORKER, "Both are ended; others take their places.")
def channel_in_two_processes(me: Me) -> None:
    """A worker's child holds the channel open when the worker has ended, and says what the worker could."""

    def life() -> None:
        time.sleep(0.3)
        tell([ENDED, my_number(me), 0, 0.0, None], [READY, [], os.getpid()])
        time.sleep(5)

    me.fork(life)

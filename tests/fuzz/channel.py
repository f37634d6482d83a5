"""A channel's frames, read in pieces by both ways to make the calls: the same, whatever comes, and no more is kept than
the largest frame.
"""

import socket
from collections.abc import Callable

import msgspec

from tcppar.net import calls
from tcppar.net.calls import READ_SIZE, Calls
from tcppar.net.channel import Channel, ChannelClosed
from tcppar.records import Report
from tests.fuzz.tape import Tape, lowest_free

_LARGEST = 100
_MOST_DESCRIPTORS = 3
_DECODER = msgspec.msgpack.Decoder(list[Report])

Heard = list[object]


def execute(data: bytes) -> None:
    """Both hear the same."""
    before = lowest_free()
    assert _heard(data, calls.PLAIN) == _heard(data, calls.COMPILED)
    assert lowest_free() == before, "a descriptor is left open"


def _heard(data: bytes, means: Calls) -> Heard:
    tape = Tape(data)
    ours, its = socket.socketpair()
    ours.setblocking(False)
    its.setblocking(False)
    heard: Heard = []
    channel = Channel(ours, _DECODER, means, largest=_LARGEST)
    looks = tape.below(2) == 1
    with its:
        while not tape.is_over and "closed" not in heard:
            head = tape.below(256)
            try:
                socket.send_fds(its, [tape.take(1 + head // 8)], [0] * max(head % 8 - 4, 0))
            except BlockingIOError:
                pass  # it has looked, and not let go
            if looks and tape.below(2):
                channel.forget()
            _hear(channel.look if looks else channel.receive, heard)
            assert len(channel._buffer) <= _LARGEST + calls.LENGTH + READ_SIZE
    channel.close()
    return heard


def _hear(receive: Callable[[], list[list[Report]]], heard: Heard) -> None:
    try:
        heard += receive()
    except BlockingIOError:
        heard.append("nothing")
    except ChannelClosed:
        heard.append("closed")

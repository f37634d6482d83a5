"""What a worker makes of its channel, by C and by Python: the same offers, each with its connection, and the end."""

import os
import socket
from collections.abc import Callable
from typing import Any

import msgspec

from tcppar.net import calls
from tcppar.net.channel import Channel
from tcppar.records import Deliver, Endpoints, Family, Hire, Offer, Order, PeerCredentials, Retire
from tcppar.spawner.forking import _ChannelLine
from tcppar.spawner.zygote import _Line
from tests.fuzz.tape import Tape, lowest_free

_DECODER = msgspec.msgpack.Decoder(Order)
_ENDS = (
    Endpoints(Family.IPV4, "192.0.2.1", 4000, "127.0.0.1", 80),
    Endpoints(Family.UNIX, "", 0, "/run/service", 0),
)
Heard = list[object]


def execute(data: bytes) -> None:
    """Both hear the same."""
    plain = _heard(data, lambda end: _ChannelLine(Channel(end, _DECODER, calls.PLAIN), "00000000", tells=False))
    compiled = _heard(data, lambda end: _Line(end.fileno()))
    assert plain == compiled, f"{plain} is not {compiled}"


def _heard(data: bytes, line_on: Callable[[socket.socket], Any]) -> Heard:
    tape, before = Tape(data), lowest_free()
    ours, its = socket.socketpair()
    heard: Heard = []
    with ours, its:
        for _ in range(1 + tape.below(6)):
            frame, descriptor = _frame(tape)
            if descriptor >= 0:
                socket.send_fds(its, [frame], [descriptor])
            else:
                its.sendall(frame)
        its.shutdown(socket.SHUT_WR)
        line = line_on(ours)
        while (given := line.next()) is not None:
            descriptor, number, ends, attempt, again = given
            told = str(ends.family), ends.remote_ip, ends.remote_port, ends.local_ip, ends.local_port
            heard.append((descriptor >= 0, number, told, attempt, again))
            if descriptor >= 0:
                os.close(descriptor)
    assert lowest_free() == before, "a descriptor is left open"
    return heard


def _frame(tape: Tape) -> tuple[bytes, int]:
    """A frame as the supervisor sends it, or nearly, and what goes with it."""
    body = bytearray(msgspec.msgpack.encode(_order(tape)))
    is_offer = body[1] == 1
    if tape.below(4) == 0 and body:
        at = tape.below(len(body))
        body[at : at + tape.below(3)] = tape.take(tape.below(4))
    size = len(body)
    if tape.below(16) == 1:
        size = tape.below(2**32)
    return size.to_bytes(4, "big") + body, 0 if is_offer or tape.below(8) == 1 else -1


def _order(tape: Tape) -> object:
    number = tape.below(2**32)
    offer = Offer(number, tape.one_of(_ENDS), attempt=tape.below(256), again=tape.below(2) == 1)
    others = (
        Offer(number, _ENDS[1], PeerCredentials(1, 2, number), 3),
        Hire(-number - 1),
        Deliver(number, tape.below(70)),
        Retire(),
    )
    return tape.one_of((*[offer] * 4, *others))

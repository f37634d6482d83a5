"""Reports as a spawner or a worker may make them up."""

import msgspec

from tcppar.net.calls import LENGTH
from tcppar.records import Busy, Ended, Failed, Leaving, Ready, Refused, Report, Taken
from tests.fuzz.tape import Tape

_NUMBERS = (*range(-4, 8), *range(-4, 8), 2**31, 2**63 - 1, -(2**63))
_FLOATS = (*[0.5] * 12, 0.0, -1.0, 1e308, float("inf"), float("nan"))
_TEXTS = ("", "spawn", "x" * 300, "\0\n\x1b[2J", "\U0001f4a3")


def report(tape: Tape, offered: list[tuple[int, int]]) -> bytes:
    """A frame of one or more reports, about what was offered more often than not."""
    return framed(msgspec.msgpack.encode([_one(tape, offered) for _ in range(1 + tape.below(12) // 8)]))


def framed(body: bytes) -> bytes:
    """With its length."""
    return len(body).to_bytes(LENGTH, "big") + body


def mangled(tape: Tape, frame: bytes) -> bytes:
    """A frame that may be none any more."""
    at = tape.below(len(frame))
    match tape.below(3):
        case 0:
            return frame[:at]
        case 1:
            return frame[:at] + tape.take(tape.below(4)) + frame[at + tape.below(4) :]
    body = frame[LENGTH : at + 1] + tape.take(2) + frame[at + 1 :]
    return framed(body)


def _one(tape: Tape, offered: list[tuple[int, int]]) -> Report:
    number, attempt = tape.one_of(_NUMBERS), tape.below(4)
    if offered and tape.below(4):
        number, attempt = tape.one_of(offered)
    # No process of such a number is anybody's here; but all are looked at.
    pid = tape.one_of((*range(4_000_000, 4_000_010), 0, 1, 2, -1, 2**31 - 1, 2**40))
    match tape.below(10):
        case 0 | 1 | 2:
            return Ready(tuple(tape.one_of(_TEXTS) for _ in range(tape.below(3))), pid)
        case 3 | 4:
            return Taken(number, pid, tape.one_of(_FLOATS))
        case 5 | 6:
            return Ended(number, tape.one_of((None, *_NUMBERS)), tape.one_of(_FLOATS), tape.one_of((None, *_NUMBERS)))
        case 7:
            return Busy(number, tape.one_of(_NUMBERS), tape.one_of(_TEXTS), attempt)
        case 8:
            return Failed(number, tape.one_of(_TEXTS))
    return Leaving() if tape.below(2) else Refused(tape.one_of(_TEXTS), tape.below(2) == 1, _TEXTS)

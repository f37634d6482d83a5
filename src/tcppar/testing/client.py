"""One client of a load: what it does, and how it can be let down."""

import random
import selectors
import socket
import struct
import time
from collections.abc import Generator
from dataclasses import dataclass
from enum import Enum, StrEnum

LATE = 1.0
"""A client that has to wait longer than this, in seconds, for one thing, is late."""

_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
_LEAVE_BY_RESET = struct.pack("ii", 1, 0)
_LONGEST_GREETING = 128
_NOISE = random.Random(7).randbytes(1 << 18)


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a client is told first: the id of its connection, and the process that serves it."""

    id: str
    pid: int

    @classmethod
    def read(cls, line: bytes) -> "Greeting | None":
        """The greeting in a line; None if it is none."""
        match line.split():
            case [id, pid] if pid.isdigit() and line.endswith(b"\n"):
                return cls(id.decode(errors="backslashreplace"), int(pid))
        return None


class Failure(StrEnum):
    """How a client was let down."""

    REFUSED = "refused"
    RESET = "reset"
    CUT = "cut"
    """The stream ended before everything had come."""
    DIFFERENT = "different"
    """What came is not what was sent."""
    SILENT = "silent"
    """Nothing came at all, to the end of all patience."""


class Manner(Enum):
    """How a client converses: (exchanges, bytes of each, seconds of pause after each)."""

    QUICK = (1, 64, 0.0)
    TALK = (5, 64, 0.2)
    SLOW = (20, 1, 0.1)
    BULK = (1, 1 << 17, 0.0)
    RUDE = (0, 0, 0.0)
    """It leaves by a reset as soon as it has come."""

    def __init__(self, exchanges: int, size: int, pause: float) -> None:
        self.exchanges = exchanges
        self.size = size
        self.pause = pause


@dataclass(frozen=True, slots=True)
class Target:
    """A service that clients come to.

    Attributes:
        address: host and port.
        share: of all clients, in comparison with the other targets.
    """

    service: str
    address: tuple[str, int]
    share: int = 1


@dataclass(frozen=True, slots=True)
class Loss:
    """A client that was let down: how, when (time.monotonic), after how many seconds; its greeting, if it got one."""

    failure: Failure
    service: str
    manner: Manner
    at: float
    after: float
    greeting: Greeting | None
    detail: str

    def __str__(self) -> str:
        who = "a client" if self.greeting is None else f"{self.greeting.id}, process {self.greeting.pid}"
        how = f"{self.failure} after {self.after:.2f} s"
        return f"{how}: {who} of {self.service}, {self.manner.name.lower()}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Wait:
    """A client that was late: from when to when it waited (time.monotonic), and for what."""

    began: float
    ended: float
    service: str
    what: str


class LetDown(Exception):
    """The stream is not what it should be."""

    def __init__(self, failure: Failure, detail: str) -> None:
        super().__init__(detail)
        self.failure = failure


# What a client waits for: an event of its socket, or that a time has passed.
Steps = Generator[int | float, None, None]


class Client:
    """One connection."""

    __slots__ = (
        "answered_after",
        "began",
        "greeting",
        "interest",
        "manner",
        "number",
        "slowest",
        "sock",
        "steps",
        "target",
    )

    def __init__(self, number: int, target: Target, manner: Manner) -> None:
        self.number = number
        self.target = target
        self.manner = manner
        self.began = time.monotonic()
        self.answered_after = 0.0
        self.slowest: Wait | None = None
        self.greeting: Greeting | None = None
        self.interest = 0
        self.sock = socket.socket(socket.AF_INET6 if ":" in target.address[0] else socket.AF_INET)
        self.sock.setblocking(False)
        self.steps = self._steps()

    def _steps(self) -> Steps:
        began = time.monotonic()
        yield from self._connect()
        if self.manner is Manner.RUDE:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LEAVE_BY_RESET)
            return
        yield from self._read_greeting()
        self.answered_after = self._waited("to be served", began)
        for exchange in range(self.manner.exchanges):
            at = (self.number * 8 + exchange) % (len(_NOISE) - self.manner.size)
            began = time.monotonic()
            yield from self._exchange(memoryview(_NOISE)[at : at + self.manner.size])
            self._waited("for an answer", began)
            if self.manner.pause:
                yield self.manner.pause
        began = time.monotonic()
        self.sock.shutdown(socket.SHUT_WR)
        if (more := (yield from self._receive(1))) != b"":
            raise LetDown(Failure.DIFFERENT, f"{more!r} came after everything")
        self._waited("for the end", began)

    def _connect(self) -> Steps:
        self.sock.connect_ex(self.target.address)
        yield _WRITE
        if error := self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(error, "to connect")

    def _read_greeting(self) -> Steps:
        line = b""
        while not line.endswith(b"\n"):
            if not (piece := (yield from self._receive(_LONGEST_GREETING))):
                raise LetDown(Failure.CUT, f"the end after {line!r}, instead of a greeting")
            line += piece
        if (greeting := Greeting.read(line)) is None:
            raise LetDown(Failure.DIFFERENT, f"{line[:80]!r} came, instead of a greeting")
        self.greeting = greeting

    def _exchange(self, data: memoryview) -> Steps:
        """Write and read at once, for the other side may do nothing else before it is read from."""
        sent = received = 0
        while received < len(data):
            if sent < len(data):
                try:
                    sent += self.sock.send(data[sent:])
                except BlockingIOError:
                    pass
            try:
                piece = self.sock.recv(len(data) - received)
            except BlockingIOError:
                yield _READ | _WRITE if sent < len(data) else _READ
                continue
            if not piece:
                raise LetDown(Failure.CUT, f"the end after {received} of {len(data)} bytes")
            if piece != data[received : received + len(piece)]:
                raise LetDown(
                    Failure.DIFFERENT, f"other bytes than were sent, from the {received}th on: {piece[:40]!r}"
                )
            received += len(piece)

    def _receive(self, most: int) -> Generator[int, None, bytes]:
        while True:
            try:
                return self.sock.recv(most)
            except BlockingIOError:
                yield _READ

    def _waited(self, what: str, began: float) -> float:
        ended = time.monotonic()
        if ended - began > LATE and (self.slowest is None or ended - began > self.slowest.ended - self.slowest.began):
            self.slowest = Wait(began, ended, self.target.service, what)
        return ended - began


def failure_of(error: OSError) -> Failure:
    """The kind of a failure that the system tells.

    Raises:
        OSError: it is not the server's.
    """
    if isinstance(error, ConnectionRefusedError):
        return Failure.REFUSED
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return Failure.RESET
    if isinstance(error, TimeoutError):
        return Failure.SILENT
    raise error

"""Spawners and workers that say anything, to a whole supervisor over real sockets: it neither raises nor spins, signals
nobody, and leaves nothing open.

Nothing below the supervisor is a process: its spawners' and workers' ends of the channels are held here.
"""

import os
import select
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import msgspec

from tcppar.config import Config, ServiceConfig
from tcppar.events import Event
from tcppar.net import calls, platform, processes
from tcppar.net.address import Address
from tcppar.net.channel import Channel, ChannelClosed
from tcppar.quantities import Bounds, Duration
from tcppar.records import Ended, HandlerMode, Ready, StderrMode, Taken
from tcppar.settings import LogFormat, ServerSettings, ServiceSettings
from tcppar.supervisor import core as core_module
from tcppar.supervisor import loop
from tcppar.supervisor.books import NoBooks
from tcppar.supervisor.core import Core
from tcppar.supervisor.dispatch import spawner_process
from tcppar.supervisor.dispatch.taker import Taker
from tcppar.supervisor.succession.cover import Cover
from tcppar.supervisor.succession.ledger import Ledger
from tcppar.supervisor.succession.memory import new_books
from tcppar.supervisor.succession.place import Succession
from tests.fuzz.reports import framed, mangled, report
from tests.fuzz.tape import Tape
from tests.simulation.life import SteppedSupervisor

_FEATURES = platform.detect()
_NOBODY = 4_000_000  # process ids from here up: allowed by Linux, and nobody's
_MOST_CLIENTS = 5
_SETTLING = 120
_SETTLED = 20


def _never(ledger: Ledger, answers: int) -> None:
    raise AssertionError("nobody asks for an upgrade")


class Paused(BaseException):
    """The supervisor has made as many passes as it was to make."""


class Clock:
    """The time, which passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        """In seconds."""
        return self.now


class SteppedWaiter:
    """In the place of `tcppar.net.waiter.Waiter`: looks, and never waits.

    Attributes:
        passes: how many times it may still be asked.
        found: how many sources were ready each time.
        ever_watched: all that were registered.
    """

    signalled = False

    def __init__(self) -> None:
        self._sources: dict[int, Any] = {}
        self.ever_watched: list[Any] = []
        self.passes = 0
        self.found: list[int] = []
        self.on_strike: Any = None

    def catch(self, signals: object) -> None:
        """No signal comes."""

    def register(self, source: Any) -> None:
        """Watch it."""
        assert source.fileno() not in self._sources, "it is watched already"
        self._sources[source.fileno()] = source
        self.ever_watched.append(source)

    def unregister(self, source: Any) -> None:
        """Watch it no more."""
        self._sources.pop(source.fileno(), None)

    def watches(self, source: Any) -> bool:
        """Whether it is watched."""
        return self._sources.get(source.fileno()) is source

    def wait(self, deadline: float) -> list[Any]:
        """What is ready."""
        if self.passes == 0:
            raise Paused
        self.passes -= 1
        poller = select.poll()
        for descriptor in self._sources:
            poller.register(descriptor, select.POLLIN)
        ready = [self._sources[descriptor] for descriptor, _ in poller.poll(0)]
        self.found.append(len(ready))
        return ready


class Log:
    """In the place of the log."""

    congested = False
    due_at = float("inf")

    def emit(self, event: Event) -> None:
        """It must be possible to write it."""
        msgspec.json.encode(event)

    def flush(self) -> None:
        """Nothing is kept."""

    def finish(self, patience: float, /) -> None:
        """Nothing is kept."""

    def use(self, log_format: LogFormat, /) -> None:
        """There is one."""


class Hostile:
    """Whoever has the other end of a channel.

    Attributes:
        offered: what it was asked to take, or to make: numbers and attempts.
        hired: channels of workers that it was asked to make, by number.
        pid: a worker's own.
    """

    def __init__(self, end: socket.socket, pid: int = 0) -> None:
        self._began = False
        self.pid = pid
        self.end = end
        end.setblocking(False)
        self._channel: Channel[Any] = Channel(end, msgspec.msgpack.Decoder(), calls.PLAIN)
        self.offered: list[tuple[int, int]] = []
        self.hired: list[tuple[int, socket.socket]] = []

    def read(self) -> None:
        """Read its orders."""
        try:
            orders, descriptors = self._channel.receive_with_descriptors()
        except (ChannelClosed, OSError):
            return
        for order in orders:
            match order:
                case [1, number, _, _, attempt, *_]:
                    self.offered.append((number, attempt))
                case [4, number, *_] if descriptors:
                    self.hired.append((number, socket.socket(fileno=descriptors.pop(0))))
                    self.offered.append((number, 0))
        for descriptor in descriptors:
            os.close(descriptor)

    def behave(self) -> None:
        """Say what a spawner or a worker says that has done what it was asked."""
        if not self._began:
            self._began = True
            self.say(framed(msgspec.msgpack.encode([Ready(pid=self.pid)])))
        for number, _ in self.offered:
            done = Taken(number, _NOBODY - number, 0.1) if self.pid == 0 else Ended(number, 0, 0.1, None)
            self.say(framed(msgspec.msgpack.encode([done])))
        self.offered.clear()

    def say(self, data: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send anything."""
        try:
            socket.send_fds(self.end, [data], descriptors)
        except OSError:
            pass  # it was given up, or may send none


class Stage:
    """A supervisor, and all who talk to it."""

    def __init__(self, tape: Tape, clock: Clock) -> None:
        self._clock = clock
        self.hostiles: list[Hostile] = []
        self._clients: list[socket.socket] = []
        self._waiter = SteppedWaiter()
        self._addresses: list[str] = []
        self._ledger = Ledger(new_books()) if tape.below(2) else None
        self._core = Core(
            waiter=self._waiter,  # type: ignore[arg-type]
            log=Log(),
            features=_FEATURES,
            id_prefix="fuzzed",
            now=clock.now,
            books=self._ledger or NoBooks(),
        )
        self._supervisor = SteppedSupervisor(
            _config(tape),
            self._core,
            reread=lambda: Config(ServerSettings(), {}),
            announce=self._addresses.extend,
            succession=Succession(found=set(), kept=set(), replace=_never, replace_alone=_never),
        )

    def start_spawner(self, channel: int, *others: object) -> int:
        """In the place of `spawner_process.start`."""
        self.hostiles.append(Hostile(socket.socket(fileno=os.dup(channel))))
        return _NOBODY + len(self.hostiles)

    def run(self, passes: int) -> None:
        """Let the supervisor go through its loop so many times."""
        self._waiter.passes = passes
        try:
            self._supervisor.run()
        except Paused:
            pass

    def do(self, tape: Tape) -> None:
        """The next thing that happens."""
        who = tape.one_of(self.hostiles)
        match tape.below(12):
            case 0 | 9 | 10:
                self._connect()
            case 11:
                self._behave()
            case 1:
                self._clock.now += tape.one_of((0.01, 0.3, 1.5, 31.0))
            case 2:
                who.end.shutdown(socket.SHUT_RDWR)
            case 3:
                who.say(tape.piece(), [0] * tape.below(3))
            case 4:
                who.say(mangled(tape, report(tape, who.offered)))
            case _:
                who.say(report(tape, who.offered))
        self.run(1 + tape.below(2))
        self._read_all()

    def begin(self) -> None:
        """All begin as they should, and serve somebody."""
        for _ in range(4):
            self._read_all()
            self._behave()
            self.run(2)
        self._connect()
        self.run(3)
        self._read_all()

    def _behave(self) -> None:
        for hostile in self.hostiles:
            hostile.behave()

    def _read_all(self) -> None:
        for hostile in self.hostiles[:]:
            hostile.read()
            while hostile.hired:
                number, end = hostile.hired.pop()
                self.hostiles.append(Hostile(end, _NOBODY - number))

    def _connect(self) -> None:
        if self._addresses and len(self._clients) < _MOST_CLIENTS:
            host, _, port = self._addresses[0].rpartition(":")
            self._clients.append(socket.create_connection((host, int(port))))

    def settle(self) -> None:
        """Nobody says anything more: it comes to rest, and does not look again and again at what it has seen."""
        for _ in range(_SETTLING):
            self._clock.now += 0.05
            self.run(1)
        assert 0 in self._waiter.found[-_SETTLED:], "something is ready each time, and nothing is done about it"

    def close(self) -> None:
        """Close all that is open."""
        if self._supervisor.reloading.rollout is not None:
            self._supervisor.reloading.rollout.give_up("the end")
        for service in self._supervisor.running.services.values():
            for acceptor in list(service.acceptors):
                acceptor.abandon()
        for source in self._waiter.ever_watched:
            if isinstance(source, Taker):
                source.lose_channel()
        for connection in self._supervisor.running.table.all_open():
            connection.close_copy()
        self._supervisor.running.parts.logs.finish()
        for open_one in (*self._clients, *(hostile.end for hostile in self.hostiles)):
            open_one.close()
        if self._ledger is not None:
            Cover(self._ledger.descriptor).let_reserve_go()
            self._ledger.close()


def _config(tape: Tape) -> Config:
    kinds: tuple[dict[str, Any], ...] = {"command": ("/bin/true",)}, {"handler": "a:b", "mode": HandlerMode.POOL}
    kind = tape.one_of(kinds)
    others: tuple[dict[str, Any], ...] = (
        {},
        {"max_lifetime": Duration(1)},
        {"workers": Bounds("1-3")},
        {"hand_over_timeout": Duration(1)},
    )
    more = tape.one_of(others)
    settings = ServiceSettings(
        listen=(Address("127.0.0.1:0"),), stderr=tape.one_of((StderrMode.INHERIT, StderrMode.LOG)), **kind | more
    )
    return Config(ServerSettings(), {"fuzzed": ServiceConfig("fuzzed", settings, None)})


@contextmanager
def _nobody_is_signalled() -> Iterator[None]:
    """No process is anybody's of the supervisor's here."""

    def fail(*words: object, **more: object) -> None:
        raise AssertionError(f"a signal is sent: {words}")

    with ExitStack() as stack:
        for module, name in ((os, "kill"), (os, "killpg"), (processes, "send")):
            stack.enter_context(patch.object(module, name, fail))
        yield


def execute(data: bytes) -> None:
    """One life of a supervisor."""
    before, tape, clock = _open(), Tape(data), Clock()
    time = SimpleNamespace(monotonic=clock.monotonic)
    with _nobody_is_signalled(), patch.object(core_module, "time", time), patch.object(loop, "time", time):
        stage = Stage(tape, clock)
        with patch.object(spawner_process, "start", stage.start_spawner):
            stage.run(1)
            if tape.below(8):
                stage.begin()
            while not tape.is_over:
                stage.do(tape)
            stage.settle()
            stage.close()
    left = {number: what for number, what in _open().items() if number not in before}
    assert not left, f"left open: {left}"


def _open() -> dict[int, str]:
    """What is open, by its number."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            pass  # what it was listed by
    return found

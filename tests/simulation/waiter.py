"""Waiting in the simulated system, and the way to let a loop run for one pass at a time."""

import errno
import os
from collections.abc import Callable, Collection
from signal import Signals

from tcppar.net.waiter import Source
from tcppar.policy.strikes import Verdict
from tests.simulation.faults import Call
from tests.simulation.kernel import Kernel, Process

# As the real one's.
_SHORTAGE_PAUSE = 0.05


class Waits(BaseException):
    """The loop that runs has come to the place where it waits. Not an Exception: nothing may catch it."""


class SimulatedWaiter:
    """In the place of `tcppar.net.waiter.Waiter`.

    A pass of a loop is from one wait to the next: the first wait of a step returns, if there is anything to return for,
    and every other one ends the step. The loop is called again to go on, and finds itself at the first wait.

    Args:
        resumed: whether the loop registers its source each time that it is called.

    Attributes:
        reverse: whether sources are told of in the opposite order.
        false_alarms: how many sources are told of with the next wait though nothing is there.
        failure: the next wait fails, and is judged so.
    """

    def __init__(self, kernel: Kernel, process: Process, *, resumed: bool = False) -> None:
        self._kernel = kernel
        self._resumed = resumed
        self._process = process
        self._sources: dict[int, Source] = {}
        self._may_return = False
        self.deadline = float("-inf")
        self.reverse = False
        self.false_alarms = 0
        self.failure: Verdict | None = None
        self.on_strike: Callable[[OSError, Verdict], None] = lambda error, verdict: None
        self.on_shortage: Callable[[OSError], None] = lambda error: None
        self._unwatched: dict[int, Source] = {}

    descriptors = (-1,)
    """Of its own: nobody here looks what they lead to."""

    def step(self, loop: Callable[[], None]) -> bool:
        """Let a loop do one pass; whether it has come to its end.

        Raises:
            BaseException: whatever ends the loop otherwise.
        """
        self._may_return = True
        try:
            with self._kernel.run(self._process):
                loop()
        except Waits:
            return False
        return True

    @property
    def would_return(self) -> bool:
        """Whether a wait would end now."""
        return self.failure is not None or self.signalled or self._kernel.now >= self.deadline or bool(self._ready())

    def _ready(self) -> list[Source]:
        table = self._process.table
        alarms = list(self._sources)[: self.false_alarms]
        return [source for number, source in self._sources.items() if number in alarms or table[number].readable]

    def wait(self, deadline: float) -> list[Source]:
        self._kernel.tick()
        if self._unwatched:
            unwatched, self._unwatched = self._unwatched, {}
            for late in unwatched.values():
                self.register(late)
            deadline = min(deadline, self._kernel.now + _SHORTAGE_PAUSE)
        self.deadline = deadline
        if not (self._may_return and self.would_return):
            raise Waits
        self._may_return = False
        if self.failure is not None:
            verdict, self.failure = self.failure, None
            self.on_strike(OSError(errno.EINVAL, os.strerror(errno.EINVAL)), verdict)
            return []
        ready = self._ready()
        self.false_alarms = 0
        return ready[::-1] if self.reverse else ready

    def register(self, source: Source) -> None:
        self._kernel.tick()
        self._kernel.file(source.fileno())
        known = self._sources.get(source.fileno())
        if known is not None and not (self._resumed and known is source):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        try:
            self._kernel.faults.meet(Call.REGISTER)
        except OSError as error:
            self._unwatched[source.fileno()] = source
            self.on_shortage(error)
        else:
            self._sources[source.fileno()] = source

    def unregister(self, source: Source) -> None:
        self._unwatched.pop(source.fileno(), None)
        self._sources.pop(source.fileno(), None)

    def watches(self, source: Source) -> bool:
        return source in (self._sources.get(source.fileno()), self._unwatched.get(source.fileno()))

    def watches_only_what_is_open(self) -> bool:
        """Whether all that is registered is open: what is closed must have been unregistered before."""
        return self._sources.keys() <= self._process.table.keys()

    def catch(self, signals: Collection[Signals]) -> None:
        self._process.caught.update(signals)

    def release(self, signals: Collection[Signals]) -> None:
        self._process.caught.difference_update(signals)

    @property
    def signalled(self) -> bool:
        return bool(self._process.signals)

    def take_signals(self) -> set[int]:
        taken, self._process.signals = self._process.signals, set()
        return taken

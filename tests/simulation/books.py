"""The log and the ledger of the simulated system: both are there when the supervisor is not any more."""

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from tcppar.events import ConnectionEnded, ConnectionRefused, Event
from tcppar.policy.timers import NEVER
from tcppar.settings import LogFormat
from tcppar.supervisor.books import Counters
from tcppar.supervisor.succession.ledger import Ledger
from tcppar.supervisor.succession.memory import new_books
from tests.simulation.kernel import Kernel

# As the real log: records are written together, a little late.
_LONGEST_WAIT = 0.01

_ENTRIES = (
    "save",
    "enter",
    "offering",
    "offered",
    "waits",
    "taken",
    "orphaned",
    "ruled",
    "ended",
    "note_hired",
    "settle",
)

EndRecord = ConnectionEnded | ConnectionRefused


class SimulatedLog:
    """In the place of `tcppar.observe.log.Log`. What was not flushed dies with the process.

    Attributes:
        written: what can be read in the log, by whoever reads it.
        unsettled: how much of it was written since the ledger was settled.
    """

    congested = False

    def __init__(self, kernel: Kernel, written: list[Event]) -> None:
        self._kernel = kernel
        self._pending: list[Event] = []
        self.written = written
        self.unsettled = 0
        self.due_at = NEVER

    def emit(self, event: Event) -> None:
        self._pending.append(event)
        if self.due_at is NEVER:
            self.due_at = self._kernel.now + _LONGEST_WAIT

    def flush(self) -> None:
        self._kernel.tick()
        self.written.extend(self._pending)
        self.unsettled += len(self._pending)
        self._pending.clear()
        self.due_at = NEVER
        self._kernel.tick()

    def finish(self, patience: float, /) -> None:
        self.flush()

    def use(self, log_format: LogFormat, /) -> None:
        pass

    @property
    def in_doubt(self) -> list[Event]:
        """What was written, and may be told again by whoever comes next: if we die now, nobody knows that it was."""
        return self.written[len(self.written) - self.unsettled :]

    @property
    def told(self) -> list[Event]:
        """All that was told, written or not."""
        return self.written + self._pending


class SimulatedLedger(Ledger):
    """The real one, in real memory; but the supervisor can die before and after each of its entries."""

    def __init__(self, kernel: Kernel, descriptor: int) -> None:
        super().__init__(descriptor)
        self.log: SimulatedLog | None = None
        for name in _ENTRIES:
            setattr(self, name, partial(_between_ticks, kernel, getattr(self, name)))

    @classmethod
    def made_in(cls, kernel: Kernel) -> "SimulatedLedger":
        """One with nothing in it."""
        return cls(kernel, new_books())

    def hold_reserve(self) -> None:
        """There is no want of descriptors here."""

    def settle(self, counters: Counters) -> None:
        super().settle(counters)
        if self.log is not None:
            self.log.unsettled = 0

    def of_next(self, kernel: Kernel) -> "SimulatedLedger":
        """As another process has it."""
        return SimulatedLedger(kernel, os.dup(self.descriptor))


def _between_ticks(kernel: Kernel, entry: Callable[..., Any], *arguments: object) -> object:
    kernel.tick()
    result = entry(*arguments)
    kernel.tick()
    return result

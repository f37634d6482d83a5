"""What all parts of the supervisor share: the time, the waiter, the deadlines, the table, the way to the log."""

import errno
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from tcppar.events import Event, Fault
from tcppar.net.platform import Features
from tcppar.net.waiter import Waiter
from tcppar.policy import faults
from tcppar.policy.strikes import Backoff
from tcppar.policy.throttle import Throttle
from tcppar.policy.timers import Timers
from tcppar.settings import LogFormat
from tcppar.supervisor.books import Books, Counters, NoBooks


class EventLog(Protocol):
    """Where events go."""

    def emit(self, event: Event) -> None: ...
    @property
    def congested(self) -> bool: ...
    @property
    def due_at(self) -> float: ...
    def flush(self) -> None: ...
    def finish(self, patience: float, /) -> None: ...
    def use(self, log_format: LogFormat, /) -> None: ...


class Forgets(Protocol):
    """Something that was looked at."""

    def forget(self) -> None: ...


# A shortage is looked at again this soon, and ever more seldom: the processor stays idle, and its end is not missed
# for long.
SHORTAGE_FIRST_DELAY = 0.05
SHORTAGE_LONGEST_DELAY = 1.0
_WANTS_OF_A_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)


@dataclass(slots=True)
class Core:
    """Shared by reference; `now` is the monotonic time of the current pass of the loop."""

    waiter: Waiter
    log: EventLog
    features: Features
    id_prefix: str
    now: float = field(default_factory=time.monotonic)
    timers: Timers = field(default_factory=Timers)
    throttle: Throttle = field(default_factory=Throttle)
    counters: Counters = field(default_factory=Counters)
    books: Books = field(default_factory=NoBooks)
    """For whoever comes after this supervisor, if anybody does."""
    unsettled: list["Forgets"] = field(default_factory=list)
    """What was read in this pass and is to be let go of when its consequences are written."""
    adoptive_parents: set[int] = field(default_factory=lambda: {os.getpid()})
    """Whose children the orphans of spawners become: ours; the keeper's, if a supervisor before us has started them."""
    workers_hired: int = 0
    spare_descriptors: Callable[[], None] = lambda: None
    """Lets go of those that are kept for strangers; whoever keeps them sets it."""
    short_of_descriptors: bool = False
    """No descriptor, buffer or memory was left for an accept: no listener is watched until the next try."""
    accept_failing: bool = False
    """Whether the last accept failed for such a want."""
    _shortage: Backoff = field(default_factory=lambda: Backoff(SHORTAGE_FIRST_DELAY, SHORTAGE_LONGEST_DELAY))

    def id_of(self, number: int) -> str:
        """The id that the child of a connection and the log know it by."""
        return f"{self.id_prefix}-{number}"

    def structure_changed(self) -> None:
        """What a next supervisor must know of services, listeners and spawners is different now."""
        self.books.structure_changed()

    def number_of_next_worker(self) -> int:
        """A number that no worker and no connection has had. It is noted first: whoever comes after us, killed in
        between, would give it to another worker of the same spawner.
        """
        self.workers_hired += 1
        self.books.note_hired(self.workers_hired)
        return -self.workers_hired

    def settle(self) -> None:
        """At the end of a pass: what it led to is written, so that a next supervisor need not read it once more."""
        if self.unsettled or self.books.owes:
            self.log.flush()
            self.books.settle(self.counters)
            for looked_at in self.unsettled:
                try:
                    looked_at.forget()
                except OSError:
                    pass  # memory is short: whoever reads on lets go of it first
            self.unsettled.clear()

    def note_faults(self) -> None:
        """Of what no connection's record tells, the numbers are noted as soon as they change."""
        self.books.note_faults(self.counters)

    def later(self, seconds: float) -> float:
        """The deadline `seconds` from now, by the clock itself: this pass may have taken long."""
        return time.monotonic() + seconds

    def fault(self, kind: object, what: str, error: int, remedy: str, service: str | None = None) -> None:
        """Tell of a failure that is lived through, at most once a period for each `kind`."""
        if count := self.throttle.note(kind, self.now):
            self.log.emit(Fault(what=what, error=faults.name(error), remedy=remedy, count=count, service=service))

    def fell_short(self, error: int) -> None:
        """Something could not be had: if it was a descriptor, let go of those that are kept for strangers."""
        if error in _WANTS_OF_A_DESCRIPTOR:
            self.spare_descriptors()

    def accept_fell_short(self, error: int) -> None:
        """An accept failed for want of something: look at no listener for a while."""
        self.fell_short(error)
        self.accept_failing = True
        self.fault(("accept", error), "accept", error, "clients wait in the kernel's queue until the shortage is over")
        if not self.short_of_descriptors:
            self.short_of_descriptors = True
            self.timers.at(self.later(self._shortage.fail()), partial(setattr, self, "short_of_descriptors", False))

    def accept_worked(self) -> None:
        """An accept worked: the next shortage is a new one."""
        self._shortage.succeed()
        self.accept_failing = False

"""The simulated system: a clock, processes, descriptors, signals.

It decides nothing, and whoever breaks its rules fails the test: who closes what is not open, or goes on after its end.
"""

import errno
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from signal import Signals

from tests.simulation.faults import FaultPlan

# Far from those of the test's own process: one that leaks into a real call is not open there.
_FIRST_DESCRIPTOR = 1000
_FIRST_PID = 100_000


class Killed(BaseException):
    """The process that runs is dead, and does nothing more. Not an Exception: nothing may catch it."""


_inodes = count(1)


class OpenFile:
    """What a descriptor leads to, with as many references as there are descriptors. No other one has its inode."""

    def __init__(self) -> None:
        self.references = 0
        self.inode = next(_inodes)

    @property
    def readable(self) -> bool:
        """Whether whoever waits for it would be told."""
        return False

    def released(self) -> None:
        """Its last descriptor is closed."""


class Process:
    """A process, until it is reaped.

    Attributes:
        parent: None for the system's first process, which reaps at once.
        table: its descriptors; two processes may share one.
        environment: what it was started with.
        subreaper: whether orphans among its descendants become its children.
        status: as waitpid(2) gives it; None while it lives.
    """

    def __init__(
        self,
        kernel: "Kernel",
        parent: "Process | None",
        *,
        table: dict[int, OpenFile] | None = None,
        environment: Iterable[bytes] = (),
        subreaper: bool = False,
    ) -> None:
        self.kernel = kernel
        self.parent = parent
        self.table = {} if table is None else table
        self.environment = frozenset(environment)
        self.subreaper = subreaper
        self.status: int | None = None
        self.caught: set[int] = set()
        self.signals: set[int] = set()
        self.pid = self.session = kernel.add(self)

    @property
    def lives(self) -> bool:
        """Whether it runs."""
        return self.status is None

    def obey(self, number: int) -> None:
        """A signal came that it does not catch, and that is not SIGKILL: most end it."""
        if number != Signals.SIGCHLD:
            self.kernel.exit(self, number)

    def step(self) -> bool:
        """Run until it would wait; whether there was anything to do."""
        return False

    @property
    def wakes_at(self) -> float:
        """When it would go on by itself."""
        return float("inf")


class Kernel:
    """All of it.

    Attributes:
        running: the process whose calls are being served.
        on_signal: told of each signal that one process sends to another: who, whom (None: nobody has the number), what.
    """

    def __init__(self) -> None:
        self.now = 1000.0
        self.faults = FaultPlan()
        self.processes: dict[int, Process] = {}
        self.on_signal: Callable[[Process, Process | None, int], None] = lambda sender, target, number: None
        self._next_pid = _FIRST_PID
        self._calls_left: int | None = None
        self._doomed: Process | None = None
        self._overtaking: tuple[Process, int, Callable[[], None]] | None = None
        self.running = Process(self, None)
        del self.processes[self.running.pid]

    def monotonic(self) -> float:
        """The clock."""
        return self.now

    # Processes.

    def add(self, process: Process) -> int:
        """Give a new process its number. None is ever given twice."""
        self._next_pid += 1
        self.processes[self._next_pid] = process
        return self._next_pid

    @contextmanager
    def run(self, process: Process) -> Iterator[None]:
        """Let calls be those of a process."""
        before, self.running = self.running, process
        try:
            yield
        finally:
            self.running = before

    def doom(self, process: Process, calls: int) -> None:
        """Let a process die by SIGKILL, after so many more calls."""
        self._doomed, self._calls_left = process, calls

    def pardon(self) -> bool:
        """Let whoever was doomed live; whether there was anybody."""
        pardoned, self._doomed = self._doomed is not None, None
        return pardoned

    def overtake(self, process: Process, calls: int, do: Callable[[], None]) -> None:
        """Let something happen when a process has made so many more calls, before its next one."""
        self._overtaking = process, calls, do

    def tick(self) -> None:
        """A process makes a call: before which something else may happen, and which it may not live to make."""
        if self._overtaking is not None and self._overtaking[0] is self.running:
            process, calls, do = self._overtaking
            self._overtaking = (process, calls - 1, do) if calls else None
            if not calls:
                do()
        if self._doomed is self.running and self._calls_left is not None:
            self._calls_left -= 1
            if self._calls_left < 0:
                self._doomed = None
                self.exit(self.running, signal.SIGKILL)
        if not self.running.lives:
            raise Killed

    def exit(self, process: Process, status: int) -> None:
        """A process ends; it is a zombie until its parent has waited for it."""
        if not process.lives:
            return
        process.status = status
        if not any(other.lives and other.table is process.table for other in self.processes.values()):
            for descriptor in list(process.table):
                self.close_in(process.table, descriptor)
        heir = process.parent
        while heir is not None and not (heir.subreaper and heir.lives):
            heir = heir.parent
        for child in self.children_of(process):
            child.parent = heir
            self._tell_parent(child)
        self._tell_parent(process)

    def _tell_parent(self, process: Process) -> None:
        if process.lives:
            return
        if process.parent is None:
            self.processes.pop(process.pid, None)
        else:
            self.signal(process.parent, Signals.SIGCHLD)

    def number_is_used(self, number: int) -> bool:
        """Whether a process has it, or is of its session."""
        return any(number in (process.pid, process.session) for process in self.processes.values())

    def children_of(self, process: Process) -> list[Process]:
        """Those that live, and those that are not reaped."""
        return [child for child in self.processes.values() if child.parent is process]

    def reap(self) -> Process | None:
        """A child of the running process that has ended, which is no more then; None if none has.

        Raises:
            ChildProcessError: it has no children.
        """
        children = self.children_of(self.running)
        if not children:
            raise ChildProcessError(errno.ECHILD, os.strerror(errno.ECHILD))
        ended = next((child for child in children if not child.lives), None)
        if ended is not None:
            del self.processes[ended.pid]
        return ended

    def signal(self, process: Process, number: int) -> None:
        """A signal reaches a process."""
        if not process.lives:
            return
        if number == Signals.SIGKILL:
            self.exit(process, number)
        elif number in process.caught:
            process.signals.add(number)
        else:
            process.obey(number)

    def send_signal(self, pid: int, number: int) -> None:
        """The running process signals another."""
        target = self.processes.get(pid)
        if number:
            self.on_signal(self.running, target, number)
        if target is None:
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        if number:
            self.signal(target, number)

    # Descriptors.

    def open(self, file: OpenFile, table: dict[int, OpenFile] | None = None) -> int:
        """A new descriptor for a file: the lowest that is free."""
        table = self.running.table if table is None else table
        descriptor = next(number for number in range(_FIRST_DESCRIPTOR, 1 << 20) if number not in table)
        table[descriptor] = file
        file.references += 1
        return descriptor

    def file(self, descriptor: int) -> OpenFile:
        """What a descriptor of the running process leads to.

        Raises:
            OSError: it is not open.
        """
        if (file := self.running.table.get(descriptor)) is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return file

    def close(self, descriptor: int) -> None:
        """Close a descriptor of the running process: one that is open."""
        self.close_in(self.running.table, descriptor)

    def close_in(self, table: dict[int, OpenFile], descriptor: int) -> None:
        """Close a descriptor of a table."""
        assert descriptor in table, f"descriptor {descriptor} is closed, and was not open"
        self.let_go(table.pop(descriptor))

    def let_go(self, file: OpenFile) -> None:
        """There is one reference less."""
        file.references -= 1
        if file.references == 0:
            file.released()

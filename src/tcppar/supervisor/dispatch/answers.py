"""Noticing whoever owes an answer and does not give it: a spawner or a worker that was stopped, or hangs.

Both run as the user of their children, any of which can stop them (SIGSTOP). Whoever is found stopped is told to go on,
once; whoever is found so again, or owes too long, is given up: ended, and replaced, and what it had not taken goes to
another. One look does not suffice for that: a whole machine can stand still for a second, and then nobody is to blame.

Whoever makes a process by vfork(2) waits, and takes no signal, until that has become its program; but the process
itself can be stopped before it has. So it is that one that is told to go on, as often as it takes.
"""

import math
import signal
from collections.abc import Callable, Hashable, Iterable
from typing import NamedTuple

from tcppar.net import processes
from tcppar.net.processes import Process
from tcppar.supervisor.core import Core
from tcppar.supervisor.dispatch.taker import Taker

FOREVER = math.inf
_PERIOD = 0.25
# Of those that a process makes, it waits for the last one; but a child can put others behind it (CLONE_PARENT).
_MOST_CHILDREN = 64


class Debt(NamedTuple):
    """An answer that is owed.

    Attributes:
        matter: tells it from others of the same taker.
        since: in monotonic seconds.
        patience: in seconds. Whoever has FOREVER is told to go on as often as it is stopped.
    """

    taker: Taker
    matter: Hashable
    since: float
    patience: float
    what: str


class AnswerWatch:
    """Looks at the debts of a pool while there are any.

    Args:
        debts: what is owed now.
    """

    def __init__(self, core: Core, debts: Callable[[], Iterable[Debt]]) -> None:
        self._core = core
        self._debts = debts
        self._seen: set[tuple[int, Hashable]] = set()
        self.on = False
        """Whether it looks already; whoever makes a debt calls `begin` if not."""

    def begin(self) -> None:
        """There may be a debt."""
        self.on = True
        self._core.timers.at(self._core.later(_PERIOD), self._look)

    def _look(self) -> None:
        debts = list(self._debts())
        seen, self._seen = self._seen, {(id(debt.taker), debt.matter) for debt in debts}
        hopeless: dict[int, tuple[Taker, str]] = {}
        for debt in debts:
            again = (id(debt.taker), debt.matter) in seen
            if (reason := self._examine(debt, again=again)) is not None:
                hopeless[id(debt.taker)] = debt.taker, reason
        for taker, reason in hopeless.values():
            taker.give_up(reason)
        if debts:
            self.begin()
        else:
            self.on = False

    def _examine(self, debt: Debt, *, again: bool) -> str | None:
        """Let whoever owes go on, if it was stopped; why there is no hope any more if there is none."""
        taker = debt.taker
        process = processes.look(taker.pid) if self._core.features.pidfds and taker.pid else None
        if process is not None and process.is_stopped:
            if again and debt.patience < FOREVER:
                return f"it was stopped, and {debt.what}"
            taker.send_signal(signal.SIGCONT)
        elif again and self._core.now - debt.since > debt.patience:
            return debt.what
        elif process is not None and process.waits_for_system:
            _continue_beginners(process)
        return None


def _continue_beginners(maker: Process) -> None:
    """Let the processes go on that somebody makes, and that were stopped before they have become a program."""
    for process in processes.youngest_children_of(maker.pid, _MOST_CHILDREN):
        if process.is_stopped and process.executes_parents_program:
            try:
                processes.send(process, signal.SIGCONT)
            except OSError:
                return  # no descriptor is left: it is looked at again

"""Noticing whoever owes an answer and does not give it: a spawner or a worker that was stopped, or hangs.

Both run as the user of their children, any of which can stop them (SIGSTOP). Whoever is found stopped is told to go on,
once; whoever is found so again, or owes too long, is given up: ended, and replaced, and what it had not taken goes to
another. One look does not suffice for that: a whole machine can stand still for a second, and then nobody is to blame.
"""

import signal
from collections.abc import Callable, Hashable, Iterable
from typing import NamedTuple

from tcppar.net import processes
from tcppar.supervisor.core import Core
from tcppar.supervisor.dispatch.taker import Taker

_PERIOD = 0.25


class Debt(NamedTuple):
    """An answer that is owed.

    Attributes:
        matter: tells it from others of the same taker.
        since: in monotonic seconds.
        patience: in seconds.
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
            if self._is_stopped(debt.taker):
                if again:
                    hopeless[id(debt.taker)] = debt.taker, f"it was stopped, and {debt.what}"
                else:
                    debt.taker.send_signal(signal.SIGCONT)
            elif again and self._core.now - debt.since > debt.patience:
                hopeless[id(debt.taker)] = debt.taker, debt.what
        for taker, reason in hopeless.values():
            taker.give_up(reason)
        if debts:
            self.begin()
        else:
            self.on = False

    def _is_stopped(self, taker: Taker) -> bool:
        if not self._core.features.pidfds or not taker.pid:
            return False
        process = processes.look(taker.pid)
        return process is not None and process.is_stopped

"""Handing a service's clients over to those who take them: the order, the patience, and what is done in a shortage."""

from collections import deque
from typing import Protocol

from tcppar.policy import faults
from tcppar.policy.life import EndedBy
from tcppar.policy.strikes import Backoff
from tcppar.supervisor.connection import Connection
from tcppar.supervisor.connections.table import Table
from tcppar.supervisor.core import SHORTAGE_FIRST_DELAY, SHORTAGE_LONGEST_DELAY, Core
from tcppar.supervisor.dispatch.pool import Pool


class Owner(Protocol):
    """The service."""

    name: str

    @property
    def is_full(self) -> bool:
        """Whether as many have, or are being given, a child as may."""

    def refuse(self, connection: Connection, reason: EndedBy, detail: str = "") -> None: ...


class Handover:
    """Of one service.

    Attributes:
        waiting: clients who were accepted and whom nobody was asked to take, in their order.
        pool: who is asked; None before the first start.
        patience: for how many seconds a client waits for a process.
    """

    def __init__(self, owner: Owner, core: Core, table: Table, patience: float) -> None:
        self.waiting: deque[Connection] = deque()
        self.pool: Pool | None = None
        self.patience = patience
        self._owner = owner
        self._core = core
        self._table = table
        self._paused = False
        self._is_watched = False
        self._last_shortage = ""
        self._shortage = Backoff(SHORTAGE_FIRST_DELAY, SHORTAGE_LONGEST_DELAY)

    def tend(self) -> None:
        """Hand over whom somebody can take; let the pool grow if that is needed."""
        if self.waiting and not self._paused:
            self._hand_over()
        pool = self.pool
        if pool is not None and pool.may_be_small:
            waiting = 0 if self._paused or self._owner.is_full else len(self.waiting)
            pool.grow(waiting, self.waiting[0].accepted_at if waiting else 0.0)

    def _hand_over(self) -> None:
        pool = self.pool
        assert pool is not None
        while self.waiting and not self._owner.is_full:
            taker = pool.choose()
            if taker is None:
                if pool.is_short:
                    self._watch()
                return
            try:
                self._table.offer(self.waiting[0], taker)
            except BlockingIOError:
                return  # its channel is full: it has not read for long, and will
            except (BrokenPipeError, ConnectionResetError):
                taker.lose_channel()
                continue
            except OSError as error:
                self.fell_short("hand-over", error.errno or 0)
                return
            self.waiting.popleft()
            if not pool.answers.on:
                pool.answers.begin()

    def worked(self) -> None:
        """Somebody has got a process: the next shortage is a new one."""
        if self._shortage.failing:
            self._shortage.succeed()
            self._last_shortage = ""

    def put_back(self, connection: Connection) -> None:
        """An offer was not taken: the client waits again, before those who came later."""
        self._table.put_back(connection)
        if connection.ended_by is not None:
            self._owner.refuse(connection, connection.ended_by)
        else:
            self.waiting.appendleft(connection)

    def fell_short(self, call: str, error: int) -> None:
        """No process can be made just now: offer nothing for a while, and give up whoever has waited too long."""
        self._core.fell_short(error)
        name = self._owner.name
        told = "accepted clients are kept and served when the shortage is over"
        self._core.fault(("hand-over", name, error), call, error, told, name)
        self._last_shortage = faults.name(error)
        self._watch()
        if not self._paused:
            self._paused = True
            self._core.timers.at(self._core.later(self._shortage.fail()), self._resume)

    def _resume(self) -> None:
        self._paused = False

    def _watch(self) -> None:
        """Set the timer for whoever has waited longest, unless it is set."""
        if self.waiting and not self._is_watched:
            self._is_watched = True
            self._core.timers.at(self.waiting[0].accepted_at + self.patience, self._give_up)

    def _give_up(self) -> None:
        self._is_watched = False
        if self._owner.is_full:
            return
        if not self._paused and self.pool is not None and not self.pool.is_short:
            return  # there are workers by now, and all are busy: that may take its time
        reason = self._last_shortage or ("" if self.pool is None else self.pool.want)
        oldest = self._core.now - self.patience
        for connection in [waiting for waiting in self.waiting if waiting.accepted_at <= oldest]:
            self.waiting.remove(connection)
            self._owner.refuse(connection, EndedBy.HAND_OVER_TIMEOUT, reason)
        self._watch()

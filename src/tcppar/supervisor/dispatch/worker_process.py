"""One worker of a pool as the supervisor sees it: a taker that a spawner makes and reaps."""

import os
import signal
import socket
from typing import Protocol

from tcppar.net import channel as channels
from tcppar.records import Deliver, Hire, Report
from tcppar.supervisor.connection import Connection
from tcppar.supervisor.dispatch.parts import Parts
from tcppar.supervisor.dispatch.spawner_process import SpawnerProcess
from tcppar.supervisor.dispatch.taker import Taker, TakerState
from tcppar.supervisor.snapshot import WorkerRecord


class WorkerOwner(Protocol):
    """Whoever answers for a worker, and knows which are idle."""

    def on_report(self, worker: "WorkerProcess", report: Report) -> None: ...
    def on_channel_closed(self, worker: "WorkerProcess") -> None: ...
    def give_up(self, worker: "WorkerProcess", reason: str) -> None: ...
    def on_engaged(self, worker: "WorkerProcess", connection: Connection) -> None: ...
    def on_retiring(self, worker: "WorkerProcess") -> None: ...


class WorkerProcess(Taker):
    """A worker. It has one connection at a time.

    Args:
        number: negative; what its spawner knows it by.
        spawner: makes it, signals it and reaps it.

    Attributes:
        began: whether it has ever been ready.
        is_made: whether its spawner has told of it, to this supervisor.
        has_said_goodbye: whether it has said that it takes no more.
        idle_since: in monotonic seconds.
    """

    def __init__(
        self, owner: WorkerOwner, parts: Parts, end: socket.socket, number: int, spawner: SpawnerProcess
    ) -> None:
        super().__init__(parts, end)
        core = parts.core
        self._owner = owner
        self.number = number
        self.spawner = spawner
        self.hired_at = core.now
        self.lost_at = 0.0
        self.retired_at = 0.0
        self.is_made = False
        self.has_said_goodbye = False
        self._owes_order = False
        self.idle_since = core.now
        core.waiter.register(self)

    @classmethod
    def hired(
        cls, owner: WorkerOwner, parts: Parts, number: int, spawner: SpawnerProcess, service: str
    ) -> "WorkerProcess":
        """Have one made.

        Raises:
            OSError: no descriptor is left.
        """
        log = parts.logs.pair() if spawner.passes_log else ()
        try:
            ours, its = channels.pair()
        except OSError:
            for end in log:
                os.close(end)
            raise
        ours.setblocking(False)
        worker = cls(owner, parts, ours, number, spawner)
        if log:
            worker.log = parts.logs.follow(service, worker, log[0])
        spawner.post(Hire(number, tells=not parts.core.features.tells_unread), its.detach(), *log[1:])
        return worker

    @property
    def can_deliver(self) -> bool:
        """Its spawner can, as long as it lives."""
        return self.spawner.state is not TakerState.LOST

    @property
    def serves_as(self) -> int:
        """Its own process."""
        return self.pid

    def describe_worker(self) -> WorkerRecord:
        """What a next supervisor must know of it, but for its connection."""
        return WorkerRecord(self.describe(), self.number, self.spawner.pid, self.began, self._owes_order)

    def serves(self, connection: Connection) -> None:
        """What it writes from now on is this connection's."""
        if self.log is not None:
            self.log.belongs_to(self._core.id_of(connection.number))

    def go_on_as_worker(self, former: WorkerRecord) -> None:
        """Take up what a supervisor before this one has left."""
        self.pid = former.taker.pid
        self.began = former.began
        self._owes_order = former.owes_order
        self.go_on(former.taker)

    def _order_to_retire(self) -> None:
        self._owner.on_retiring(self)
        # It waits until the worker has read what it was offered: an order behind an offer would look like one unread.
        self._owes_order = True
        self.settle()

    def settle(self) -> None:
        """It has nothing unread any more: tell it now what had to wait for that."""
        if self._owes_order and not self.offered:
            self._owes_order = False
            super()._order_to_retire()

    def _act_upon(self, report: Report) -> None:
        self._owner.on_report(self, report)

    def give_up(self, reason: str) -> None:
        """End it, for it does not answer, or says what cannot be so."""
        self._owner.give_up(self, reason)

    def _channel_closed(self) -> None:
        self._owner.on_channel_closed(self)

    def was_asked(self, connection: Connection) -> None:
        """It is not idle any more."""
        self._owner.on_engaged(self, connection)

    @property
    def maker_pid(self) -> int:
        """Its spawner, which has made it."""
        return self.spawner.maker_pid

    @property
    def lawful_parents(self) -> set[int]:
        """Its spawner alone. (Once that is dead, it has no more than one connection, and ends with it.)"""
        return {self.spawner.maker_pid} - {0}

    def lives(self) -> bool:
        """Whether its process has not ended, as far as the kernel tells."""
        process = self.process()
        return process is not None and process.lives

    def prepare_for_signal(self) -> None:
        """It gets no other connection: the signal may reach it only when this one has ended."""
        self.retire()

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to its own process; by its spawner, where it cannot be named."""
        if self._core.features.pidfds and self.process() is not None:
            super().send_signal(number)
        elif self.spawner.state is not TakerState.LOST:
            self.spawner.post(Deliver(self.number, number))

    def deliver(self, connection: Connection, number: signal.Signals) -> None:
        """Let its spawner send a signal to its process group."""
        self.spawner.post(Deliver(self.number, number))

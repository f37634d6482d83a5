"""Who takes the connections of a service: what all kinds of pools are, and the kind whose spawners take them."""

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Protocol

from tcppar.config import ServiceConfig
from tcppar.policy import growth
from tcppar.policy.outcome import is_end
from tcppar.records import Busy, Ended, Failed, Refused, Report, Taken
from tcppar.supervisor.connection import Connection
from tcppar.supervisor.dispatch.answers import AnswerWatch, Debt
from tcppar.supervisor.dispatch.crew import Crew
from tcppar.supervisor.dispatch.debts import spawner_debts
from tcppar.supervisor.dispatch.parts import Parts
from tcppar.supervisor.dispatch.reaper import Reaper
from tcppar.supervisor.dispatch.spawner_process import MOST_OFFERS, SpawnerProcess
from tcppar.supervisor.dispatch.taker import Taker, TakerState, expect
from tcppar.supervisor.snapshot import PoolRecord, WorkerRecord

# Members of an enum are looked up slowly: this one is asked for at every hand-over.
_READY = TakerState.READY


class PoolOwner(Protocol):
    """Whoever hands connections to the pool."""

    name: str

    def on_taken(self, taker: Taker, taken: Taken) -> None: ...
    def on_not_taken(self, connection: Connection, report: Busy | Failed) -> None: ...
    def end(self, connection: Connection, ended: Ended) -> None: ...
    def end_untaken(self, connection: Connection, ended: Ended) -> None: ...
    def offer_again(self, connection: Connection) -> None: ...


class Pool(ABC):
    """Spawners with the same plan, and who takes connections by them.

    Args:
        owner: the service.
        config: the settings they are made for.
        former: what a supervisor before this one has left of it.

    Attributes:
        crew: the spawners.
        answers: looks for those who owe an answer.
        may_be_small: whether it is worth asking if somebody else is needed.
        want: what clients wait for while `is_short`, as a reason to refuse them.

    Raises:
        OSError: a directory or a descriptor that it needs cannot be had.
    """

    want = "no spawner could take it"

    def __init__(
        self,
        owner: PoolOwner,
        config: ServiceConfig,
        parts: Parts,
        reaper: Reaper,
        former: PoolRecord | None = None,
    ) -> None:
        self._owner = owner
        self._parts = parts
        self._core = parts.core
        self._reaper = reaper
        self.may_be_small = True
        self.crew = Crew(self, owner.name, config, parts, reaper, former)
        self._set_up()
        self.answers = AnswerWatch(parts.core, self._debts)
        self.take_settings(config)
        if former is not None:
            self._go_on(former)
            self.watch_answers()  # what was offered may be owed, and nobody be offered anything any more
        parts.core.structure_changed()

    @abstractmethod
    def _set_up(self) -> None:
        """Prepare what this kind needs beside the crew."""

    def _go_on(self, former: PoolRecord) -> None:
        self.crew.go_on(former)

    def describe(self, *, in_force: bool) -> PoolRecord:
        """What a next supervisor must know of it."""
        crew = self.crew
        return PoolRecord(
            service=self._owner.name,
            config=crew.config,
            in_force=in_force,
            retired=crew.retired,
            directory=crew.plan.control_directory or "",
            sources=list(crew.sources),
            spawners=crew.describe_spawners(),
            workers=self._describe_workers(),
        )

    def _describe_workers(self) -> list[WorkerRecord]:
        return []

    @abstractmethod
    def find_idle(self) -> None:
        """After taking over, when it is known who has which connection: find out who has none."""

    @property
    def number_of_workers(self) -> int:
        """How many workers it has, if it is of that kind."""
        return 0

    def watch_answers(self) -> None:
        """Somebody may owe an answer now."""
        if not self.answers.on:
            self.answers.begin()

    def take_settings(self, config: ServiceConfig) -> None:
        """Go on with settings that make the same children."""
        self.crew.config = config
        self.may_be_small = True

    def prepare(self, former: "Pool | None", on_first_ready: Callable[[Refused | None], None]) -> None:
        """Start what is needed to take clients.

        Args:
            former: the pool in whose place this one comes; None if there is none.
            on_first_ready: called once, when it is there, or is refused.

        Raises:
            OSError: the system is short of something.
        """
        self.crew.on_first_ready = on_first_ready
        self.crew.start_one()

    def retire(self) -> None:
        """Take no more connections; the spawners end with their last children."""
        self.crew.retire()

    @property
    @abstractmethod
    def takers(self) -> list[Taker]:
        """All who can have connections of the pool's."""

    @property
    @abstractmethod
    def is_short(self) -> bool:
        """Whether clients who wait now wait for want of something, and not for the end of others."""

    @abstractmethod
    def choose(self) -> Taker | None:
        """Who is to be asked to take the next connection; None if nobody can be."""

    @abstractmethod
    def grow(self, waiting: int, waiting_since: float) -> None:
        """Start another spawner, or worker, if one is needed, and none has just failed.

        Args:
            waiting: clients that nobody could be asked to take.
            waiting_since: when the first of them came, in monotonic seconds.
        """

    @abstractmethod
    def _debts(self) -> Iterator[Debt]:
        """The answers that are owed."""

    # What its spawners say, beside how they begin.

    @abstractmethod
    def on_spawner_ready(self) -> None:
        """One has begun."""

    @abstractmethod
    def on_spawner_report(self, spawner: SpawnerProcess, report: Report) -> None:
        """One reports.

        Raises:
            Misconduct: it tells of what was not asked of it.
        """

    def on_spawner_exit(self, spawner: SpawnerProcess) -> None:
        """One is dead, and what it had said is read."""
        for connection in reversed(spawner.offered.values()):
            self._settle_untold(connection)
        spawner.offered.clear()

    def _settle_untold(self, connection: Connection) -> None:
        """Its spawner is dead, and nobody is found who has it; or its worker has gone, and has not read the offer. But
        a worker can look at an offer without reading it (MSG_PEEK), and take the connection from it.
        """
        if self._reaper.was_served(connection):
            self._owner.end_untaken(connection, Ended(connection.number, None, 0.0, None))
        else:
            self._owner.offer_again(connection)


class SpawnerPool(Pool):
    """A pool whose spawners make a process for each connection."""

    def _set_up(self) -> None:
        self._spawners = self.crew.spawners
        self._processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    @property
    def takers(self) -> list[Taker]:
        """All who can have connections of the pool's."""
        return [*self.crew.spawners]

    @property
    def is_short(self) -> bool:
        """Always: spawners are never busy for long."""
        return True

    def take_settings(self, config: ServiceConfig) -> None:
        """Go on with settings that make the same children."""
        super().take_settings(config)
        self._share = config.settings.connections_per_spawner

    def choose(self) -> Taker | None:
        """The first spawner that has no more to do than others among those that may be asked; None if there is none.

        A few children more or less make no difference. So it is the first ones that are asked, whose memory is still
        warm, and not each in its turn.
        """
        share = self._share
        # An offer in hand delays the next by the making of a process, which is as bad as many children.
        weight_of_offer = share // MOST_OFFERS + 1
        no_difference = share // 8
        chosen, least, bound = None, sys.maxsize, sys.maxsize
        for spawner in self._spawners:
            load = len(spawner.children) + len(spawner.offered) * weight_of_offer
            if load < bound and len(spawner.offered) < MOST_OFFERS and spawner.state is _READY:
                chosen, least, bound = spawner, load, load - no_difference
        # Only in these cases, and after an end or a start, can it be that another one is needed.
        if chosen is None or least >= share:
            self.may_be_small = True
        return chosen

    def grow(self, waiting: int, waiting_since: float) -> None:
        """Start another spawner if one is needed, and none has just failed."""
        self.may_be_small = False
        crew = self.crew
        if not crew.may_start:
            return
        settings = crew.config.settings
        if growth.wants_another(
            [len(spawner.children) for spawner in crew.spawners if spawner.state is _READY],
            starting=sum(spawner.state is TakerState.STARTING for spawner in crew.spawners),
            waiting=waiting,
            processors=self._processors,
            per_spawner=settings.connections_per_spawner,
            fixed=settings.spawners,
        ):
            try:
                crew.start_one()
            except OSError as error:
                crew.start_failed(error.errno or 0)

    def find_idle(self) -> None:
        """Nobody waits for work: spawners are asked whatever they have."""

    def _debts(self) -> Iterator[Debt]:
        return spawner_debts(self.crew.spawners)

    def on_spawner_ready(self) -> None:
        """It can take clients."""
        self.crew.first(None)

    def on_spawner_report(self, spawner: SpawnerProcess, report: Report) -> None:
        """One tells of a connection.

        Raises:
            Misconduct: it tells of what was not asked of it.
        """
        if isinstance(report, Taken):
            expect(report.number in spawner.offered, report)
            self._owner.on_taken(spawner, report)
        elif isinstance(report, Ended):
            expect(report.number in spawner.children and is_end(report.status), report)
            self._owner.end(spawner.children.pop(report.number), report)
        elif isinstance(report, Busy):
            offered = spawner.offered
            expect(report.number in offered and report.attempt == offered[report.number].attempts, report)
            self._owner.on_not_taken(offered.pop(report.number), report)
        elif isinstance(report, Failed):
            expect(report.number in spawner.offered, report)
            self._owner.on_not_taken(spawner.offered.pop(report.number), report)
        else:
            expect(False, report)

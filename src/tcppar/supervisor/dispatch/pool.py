"""The spawners of a service that share one plan: chosen from, grown by need, replaced when one dies."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol

from msgspec.structs import replace

from tcppar.config import ServiceConfig, child_plan
from tcppar.events import GivenUp, SpawnerDied, SpawnerStarted
from tcppar.net import channel as channels
from tcppar.net import platform
from tcppar.policy import growth
from tcppar.policy.outcome import is_end
from tcppar.policy.strikes import Backoff
from tcppar.records import Busy, ChildPlan, Ended, Failed, Ready, Refused, Report, StderrMode, Taken
from tcppar.supervisor.connection import Connection
from tcppar.supervisor.core import Core
from tcppar.supervisor.dispatch import control_folder
from tcppar.supervisor.dispatch.answers import AnswerWatch, Debt
from tcppar.supervisor.dispatch.early_end import early_end
from tcppar.supervisor.dispatch.parts import Parts
from tcppar.supervisor.dispatch.reaper import Reaper
from tcppar.supervisor.dispatch.spawner_process import MOST_OFFERS, SpawnerProcess
from tcppar.supervisor.dispatch.taker import Misconduct, Taker, TakerState
from tcppar.supervisor.snapshot import PoolRecord, WorkerRecord

_RESTART_FIRST_DELAY = 0.05
_RESTART_LONGEST_DELAY = 5.0
# A program on a slow disk may take seconds to start, and its spawner waits for it.
_SPAWNERS_PATIENCE = 10.0
# A spawner whose channel is closed ends by itself, unless it has children: those go on, and are ours to look after.
_AFTER_LOSS = 0.5
_STOP_PAUSE = 0.02
_LONGEST_QUOTE = 200


# Members of an enum are looked up slowly: this one is asked for at every hand-over.
_READY = TakerState.READY


class PoolOwner(Protocol):
    """Whoever hands connections to the pool's spawners."""

    name: str

    def on_taken(self, taker: Taker, taken: Taken) -> None: ...
    def on_not_taken(self, connection: Connection, report: Busy | Failed) -> None: ...
    def end(self, connection: Connection, ended: Ended) -> None: ...
    def end_untaken(self, connection: Connection, ended: Ended) -> None: ...
    def offer_again(self, connection: Connection) -> None: ...


def expect(fits: bool, report: Report) -> None:
    """Raise Misconduct unless a report fits what is known."""
    if not fits:
        raise Misconduct(f"it sent an impossible report: {str(report)[:_LONGEST_QUOTE]}")


class Pool:
    """Spawners with the same plan.

    Args:
        owner: the service.
        config: the settings they are made for.

    Attributes:
        may_be_small: whether it is worth asking if another spawner is needed.
        on_first_ready: called once: with None when it can take clients, with the first spawner's refusal if it cannot.
        sources: the files that a handler was loaded from.

    Raises:
        OSError: a directory or a descriptor that it needs cannot be had.
    """

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
        self._core = core = parts.core
        self._reaper = reaper
        self.take_settings(config)
        self.plan = _plan_with_directory(config, core, None if former is None else former.directory)
        self.spawners: list[SpawnerProcess] = []
        self.on_first_ready: Callable[[Refused | None], None] | None = None
        self.sources: tuple[str, ...] = ()
        self._retired = False
        self._restart = Backoff(_RESTART_FIRST_DELAY, _RESTART_LONGEST_DELAY)
        self._may_start_at = 0.0
        self.answers = AnswerWatch(core, self._debts, self.give_up)
        self._processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        if former is not None:
            self._go_on(former)
        core.structure_changed()

    def _go_on(self, former: PoolRecord) -> None:
        """Take up the spawners that a supervisor before this one has left."""
        self._retired = former.retired
        self.sources = tuple(former.sources)
        if former.child_log is not None and former.child_log.is_there:
            self._parts.logs.follow(self._owner.name, None, former.child_log.descriptor)
        for record in former.spawners:
            if not record.is_there:
                continue
            spawner = SpawnerProcess(self, self._parts, channels.taken_up(record.descriptor), record.pid)
            spawner.go_on(record)
            spawner.follow_log(self._owner.name, record)
            self.spawners.append(spawner)
            self._reaper.expect(self, spawner)

    def describe(self, *, in_force: bool) -> PoolRecord:
        """What a next supervisor must know of it."""
        return PoolRecord(
            service=self._owner.name,
            config=self.config,
            in_force=in_force,
            retired=self._retired,
            directory=self.plan.control_directory or "",
            sources=list(self.sources),
            spawners=[spawner.describe() for spawner in self.spawners if spawner.state is not TakerState.LOST],
            workers=self._describe_workers(),
        )

    def _describe_workers(self) -> list[WorkerRecord]:
        return []

    @property
    def takers(self) -> list[Taker]:
        """All who can have connections of the pool's."""
        return [*self.spawners]

    def take_settings(self, config: ServiceConfig) -> None:
        """Go on with settings that make the same children."""
        self.config = config
        self._share = config.settings.connections_per_spawner
        self._spawners_wanted = config.settings.spawners
        self.may_be_small = True

    def prepare(self, former: "Pool | None") -> None:
        """Start what is needed to take clients; `on_first_ready` tells when it is there.

        Args:
            former: the pool in whose place this one comes; None if there is none.

        Raises:
            OSError: the system is short of something.
        """
        self.start_one()

    def start_one(self) -> None:
        """Start a spawner.

        Raises:
            OSError: the system is short of something.
        """
        spawner = self._start()
        self.spawners.append(spawner)
        self._reaper.expect(self, spawner)
        self._core.structure_changed()
        self._core.log.emit(SpawnerStarted(service=self._owner.name, pid=spawner.pid, spawners=len(self.spawners)))

    def _start(self) -> SpawnerProcess:
        if self.plan.passes_log:
            return SpawnerProcess.started_with_log(self, self._parts, self._plan_of_next())
        if self.config.settings.stderr is StderrMode.INHERIT:
            stderr = platform.opened_anew(2)
        else:
            stderr = os.open(os.devnull, os.O_WRONLY)
        try:
            return SpawnerProcess.started(self, self._parts, self._plan_of_next(), stderr)
        finally:
            os.close(stderr)

    def _plan_of_next(self) -> ChildPlan:
        """The plan of a spawner that is started now. Only of the first one do processes tell what they import. And only
        one on which a start, or a reload, depends looks at the program: the others' clients are told what is wrong.
        """
        handler = self.plan.handler
        if handler is None:
            return replace(self.plan, tries_program=self.on_first_ready is not None)
        if not self.spawners:
            return self.plan
        return replace(self.plan, handler=replace(handler, tells_imports=False))

    @property
    def is_short(self) -> bool:
        """Whether clients who wait now wait for want of something: spawners are never busy for long."""
        return True

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
        for spawner in self.spawners:
            load = len(spawner.children) + len(spawner.offered) * weight_of_offer
            if load < bound and len(spawner.offered) < MOST_OFFERS and spawner.state is _READY:
                chosen, least, bound = spawner, load, load - no_difference
        # Only in these cases, and after an end or a start, can it be that another one is needed.
        if chosen is None or least >= share:
            self.may_be_small = True
        return chosen

    def grow(self, waiting: int, waiting_since: float) -> None:
        """Start another spawner if one is needed, and none has just failed.

        Args:
            waiting: clients that nobody could be asked to take.
            waiting_since: when the first of them came, in monotonic seconds.
        """
        self.may_be_small = False
        if self._retired or self._core.now < self._may_start_at:
            return
        ready = [len(spawner.children) for spawner in self.spawners if spawner.state is TakerState.READY]
        settings = self.config.settings
        if growth.wants_another(
            ready,
            starting=sum(spawner.state is TakerState.STARTING for spawner in self.spawners),
            waiting=waiting,
            processors=self._processors,
            per_spawner=settings.connections_per_spawner,
            fixed=self._spawners_wanted,
        ):
            try:
                self.start_one()
            except OSError as error:
                self._start_failed(error.errno or 0)

    def _start_failed(self, error: int) -> None:
        self._core.fault(
            ("spawner", self._owner.name), "start a spawner", error, "tried again until it succeeds", self._owner.name
        )
        self._hold_off()

    def _hold_off(self) -> None:
        """Start none for a while; the timer makes the loop look again."""
        self._may_start_at = self._core.later(self._restart.fail())
        self._core.timers.at(self._may_start_at, partial(setattr, self, "may_be_small", True))

    def on_report(self, taker: Taker, report: Report) -> None:
        """A spawner reports.

        Raises:
            Misconduct: it tells of what was not asked of it.
        """
        if isinstance(report, Taken):
            expect(report.number in taker.offered, report)
            self._owner.on_taken(taker, report)
        elif isinstance(report, Ended):
            expect(report.number in taker.children and is_end(report.status), report)
            connection = taker.children.pop(report.number)
            self._owner.end(connection, report)
        elif isinstance(report, Busy):
            expect(report.number in taker.offered and report.attempt == taker.offered[report.number].attempts, report)
            self._owner.on_not_taken(taker.offered.pop(report.number), report)
        elif isinstance(report, Failed):
            expect(report.number in taker.offered, report)
            self._owner.on_not_taken(taker.offered.pop(report.number), report)
        elif isinstance(report, Ready):
            expect(not taker.began, report)
            self._spawner_began(taker, report)
        elif isinstance(report, Refused):
            expect(not taker.began, report)
            taker.began = True
            self._first(report)
        else:
            expect(False, report)

    def _spawner_began(self, taker: Taker, ready: Ready) -> None:
        taker.began = True
        if taker.state is TakerState.STARTING:
            taker.state = TakerState.READY
        self.sources = ready.sources
        self._core.structure_changed()
        self._restart.succeed()
        self.may_be_small = True
        self._on_spawner_ready()

    # Those who do not do what they should.

    def _debts(self) -> Iterator[Debt]:
        """The answers that are owed."""
        for spawner in self.spawners:
            if spawner.offered and not spawner.given_up:
                first = next(iter(spawner.offered.values()))
                matter = first.number, first.attempts
                yield Debt(spawner, matter, first.offered_at, _SPAWNERS_PATIENCE, "it does not answer")

    def give_up(self, taker: Taker, reason: str) -> None:
        """End one that does not answer, or says what cannot be so. Its children go on; another comes in its place."""
        if not taker.given_up:
            taker.given_up = True
            self._core.structure_changed()
            self._core.log.emit(
                GivenUp(service=self._owner.name, role=self.role_of(taker), pid=taker.pid, reason=reason)
            )
        taker.send_signal(signal.SIGKILL)
        self._core.timers.at(self._core.later(_AFTER_LOSS), partial(self._make_sure, taker))

    def kill(self) -> None:
        """End whoever is left: workers before their spawner, without which nobody could prove whose they are."""
        for taker in (*self.takers, *self.spawners):
            taker.send_signal(signal.SIGKILL)

    def role_of(self, taker: Taker) -> str:
        """What it is called in the log."""
        return "spawner"

    def _make_sure(self, taker: Taker) -> None:
        """A signal can be lost for want of a descriptor."""
        if taker in self.spawners:
            taker.send_signal(signal.SIGKILL)
            self._core.timers.at(self._core.later(_AFTER_LOSS), partial(self._make_sure, taker))

    def on_stopped(self, spawner: SpawnerProcess) -> None:
        """Somebody has stopped it (SIGSTOP): let it go on, but not in a race with whoever does so again and again."""
        self._core.timers.at(self._core.later(_STOP_PAUSE), partial(spawner.send_signal, signal.SIGCONT))

    def _on_spawner_ready(self) -> None:
        self._first(None)

    def _first(self, refusal: Refused | None) -> None:
        if self.on_first_ready is not None:
            called, self.on_first_ready = self.on_first_ready, None
            called(refusal)

    def on_channel_closed(self, taker: Taker) -> None:
        """A spawner is ending unasked. What it did not answer is settled when it is reaped, not before: until
        then a child of its making could still be on the way.

        Should it not end, it is ended: what it cannot tell us any more, its children's ends, would never be known.
        """
        self._core.timers.at(self._core.later(_AFTER_LOSS), partial(self._make_sure, taker))

    def on_exit(self, spawner: SpawnerProcess, outcome: str) -> None:
        """A spawner was reaped, and what it had said is read. Its children are not its any more."""
        self.spawners.remove(spawner)
        self._core.structure_changed()
        self.may_be_small = True
        self._first(early_end(self.plan, outcome))
        if not self._retired or spawner.children or spawner.offered:
            self._core.log.emit(
                SpawnerDied(
                    service=self._owner.name,
                    pid=spawner.pid,
                    outcome=outcome,
                    children=len(spawner.children),
                    offers=len(spawner.offered),
                )
            )
            if not spawner.children and not spawner.offered:
                self._hold_off()
        for connection in reversed(spawner.offered.values()):
            self._settle_untold(connection)
        spawner.offered.clear()
        self._clean_up()

    def _settle_untold(self, connection: Connection) -> None:
        """Its spawner is dead, and nobody is found who has it."""
        if self._reaper.was_served(connection):
            self._owner.end_untaken(connection, Ended(connection.number, None, 0.0, None))
        else:
            self._owner.offer_again(connection)

    def retire(self) -> None:
        """Take no more connections; the spawners end with their last children."""
        self._retired = True
        self._core.structure_changed()
        for spawner in self.spawners:
            spawner.retire()
        self._clean_up()

    def _clean_up(self) -> None:
        # Orphans may still use their control files; they are few, and the files go with the next start's directory.
        if self._retired and not self.spawners and self.plan.control_directory:
            control_folder.remove(self.plan.control_directory)


def _plan_with_directory(config: ServiceConfig, core: Core, former: str | None) -> ChildPlan:
    """The plan, with a private directory for control files, owned by the children's user, if it wants them.

    Args:
        former: the directory of a pool that this one goes on as; empty if it had none.
    """
    plan = child_plan(config, core.id_prefix, os.environ, options_inherited=core.features.inherited_options)
    if former is not None:
        return replace(plan, control_directory=former or None)
    if plan.control_file is None:
        return plan
    return replace(plan, control_directory=control_folder.make(config.name, config.identity))

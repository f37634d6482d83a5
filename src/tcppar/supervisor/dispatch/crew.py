"""The spawners of one plan: started, replaced when they die, continued when they are stopped, ended."""

import os
import signal
from collections.abc import Callable
from functools import partial
from typing import Protocol

from msgspec.structs import replace

from tcppar.config import ServiceConfig, child_plan
from tcppar.events import SpawnerDied, SpawnerStarted
from tcppar.net import channel as channels
from tcppar.net import platform
from tcppar.policy.strikes import Backoff
from tcppar.records import ChildPlan, Ready, Refused, Report, StderrMode
from tcppar.supervisor.core import Core
from tcppar.supervisor.dispatch import control_folder
from tcppar.supervisor.dispatch.early_end import early_end
from tcppar.supervisor.dispatch.parts import Parts
from tcppar.supervisor.dispatch.reaper import Reaper
from tcppar.supervisor.dispatch.spawner_process import SpawnerProcess
from tcppar.supervisor.dispatch.taker import Taker, TakerState, expect
from tcppar.supervisor.snapshot import PoolRecord, TakerRecord

_RESTART_FIRST_DELAY = 0.05
_RESTART_LONGEST_DELAY = 5.0
# A spawner whose channel is closed ends by itself, unless it has children: those go on, and are ours to look after.
_AFTER_LOSS = 0.5
_STOP_PAUSE = 0.02


class Pool(Protocol):
    """Whose spawners they are."""

    may_be_small: bool

    @property
    def takers(self) -> list[Taker]: ...
    def describe(self, *, in_force: bool) -> PoolRecord: ...
    def watch_answers(self) -> None: ...
    def on_spawner_ready(self) -> None: ...
    def on_spawner_report(self, spawner: SpawnerProcess, report: Report) -> None: ...
    def on_spawner_exit(self, spawner: SpawnerProcess) -> None: ...


class Crew:
    """Of one pool.

    Args:
        service: its name.
        config: the settings that the spawners are made for.

    Attributes:
        on_first_ready: called once: with None when the pool can take clients, with the first spawner's refusal if it
            cannot.
        sources: the files that a handler was loaded from.
        retired: whether no more are started, and those that are there end with their last children.

    Raises:
        OSError: a directory that it needs cannot be had.
    """

    def __init__(
        self,
        pool: Pool,
        service: str,
        config: ServiceConfig,
        parts: Parts,
        reaper: Reaper,
        former: PoolRecord | None,
    ) -> None:
        self._pool = pool
        self._service = service
        self._parts = parts
        self._core = parts.core
        self._reaper = reaper
        self.config = config
        self.plan = _plan_with_directory(config, parts.core, None if former is None else former.directory)
        self.spawners: list[SpawnerProcess] = []
        self.on_first_ready: Callable[[Refused | None], None] | None = None
        self.sources: tuple[str, ...] = ()
        self.retired = False
        self._restart = Backoff(_RESTART_FIRST_DELAY, _RESTART_LONGEST_DELAY)
        self._may_start_at = 0.0

    def go_on(self, former: PoolRecord) -> None:
        """Take up the spawners that a supervisor before this one has left."""
        self.retired = former.retired
        self.sources = tuple(former.sources)
        if former.child_log is not None and former.child_log.is_there:
            self._parts.logs.follow(self._service, None, former.child_log.descriptor)
        for record in former.spawners:
            if not record.is_there:
                continue
            spawner = SpawnerProcess(self, self._parts, channels.taken_up(record.descriptor), record.pid)
            spawner.go_on(record)
            spawner.follow_log(self._service, record)
            self.spawners.append(spawner)
            self._reaper.expect(self, spawner)

    def describe(self, *, in_force: bool) -> PoolRecord:
        """What a next supervisor must know of the pool."""
        return self._pool.describe(in_force=in_force)

    def describe_spawners(self) -> list[TakerRecord]:
        """What a next supervisor must know of them."""
        return [spawner.describe() for spawner in self.spawners if spawner.state is not TakerState.LOST]

    @property
    def takers(self) -> list[Taker]:
        """All who can have connections of the pool's."""
        return self._pool.takers

    # More of them.

    @property
    def may_start(self) -> bool:
        """Whether another one may be started now: none has just failed."""
        return not self.retired and self._core.now >= self._may_start_at

    def start_one(self) -> None:
        """Start a spawner.

        Raises:
            OSError: the system is short of something.
        """
        spawner = self._start()
        self.spawners.append(spawner)
        self._reaper.expect(self, spawner)
        self._pool.watch_answers()
        self._core.structure_changed()
        self._core.log.emit(SpawnerStarted(service=self._service, pid=spawner.pid, spawners=len(self.spawners)))

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

    def start_failed(self, error: int) -> None:
        """None, or no worker, could be started: tell of it, and try again later."""
        kind, remedy = ("spawner", self._service), "tried again until it succeeds"
        self._core.fault(kind, "start a spawner", error, remedy, self._service)
        self.hold_off()

    def hold_off(self) -> None:
        """Start none for a while; the timer makes the loop look again."""
        self._may_start_at = self._core.later(self._restart.fail())
        self._core.timers.at(self._may_start_at, partial(setattr, self._pool, "may_be_small", True))

    def start_worked(self) -> None:
        """One has begun: the next failure is a new one."""
        self._restart.succeed()

    # What they say.

    def on_report(self, spawner: SpawnerProcess, report: Report) -> None:
        """A spawner reports.

        Raises:
            Misconduct: it tells of what was not asked of it.
        """
        if isinstance(report, Ready):
            expect(not spawner.began, report)
            self._began(spawner, report)
        elif isinstance(report, Refused):
            expect(not spawner.began, report)
            spawner.began = True
            self.first(report)
        else:
            self._pool.on_spawner_report(spawner, report)

    def _began(self, spawner: SpawnerProcess, ready: Ready) -> None:
        spawner.began = True
        if spawner.state is TakerState.STARTING:
            spawner.state = TakerState.READY
        self.sources = ready.sources
        self._core.structure_changed()
        self.start_worked()
        self._pool.may_be_small = True
        self._pool.on_spawner_ready()

    def first(self, refusal: Refused | None) -> None:
        """The pool can take clients, or cannot."""
        if self.on_first_ready is not None:
            called, self.on_first_ready = self.on_first_ready, None
            called(refusal)

    # Their ends.

    def give_up(self, spawner: SpawnerProcess, reason: str) -> None:
        """End one that does not answer, or says what cannot be so. Its children go on; another comes in its place."""
        spawner.kill_for(reason, service=self._service, role="spawner")
        self._make_sure_later(spawner)

    def _make_sure_later(self, spawner: SpawnerProcess) -> None:
        self._core.timers.at(self._core.later(_AFTER_LOSS), partial(self._make_sure, spawner))

    def _make_sure(self, spawner: SpawnerProcess) -> None:
        """A signal can be lost for want of a descriptor."""
        if spawner in self.spawners:
            spawner.send_signal(signal.SIGKILL)
            self._make_sure_later(spawner)

    def on_stopped(self, spawner: SpawnerProcess) -> None:
        """Somebody has stopped it (SIGSTOP): let it go on, but not in a race with whoever does so again and again."""
        self._core.timers.at(self._core.later(_STOP_PAUSE), partial(spawner.send_signal, signal.SIGCONT))

    def on_channel_closed(self, spawner: SpawnerProcess) -> None:
        """A spawner is ending unasked. What it did not answer is settled when it is reaped, not before: until
        then a child of its making could still be on the way.

        Should it not end, it is ended: what it cannot tell us any more, its children's ends, would never be known.
        """
        self._make_sure_later(spawner)

    def on_exit(self, spawner: SpawnerProcess, outcome: str) -> None:
        """A spawner was reaped, and what it had said is read. Its children are not its any more."""
        self.spawners.remove(spawner)
        self._core.structure_changed()
        self._pool.may_be_small = True
        self.first(early_end(self.plan, outcome))
        if not self.retired or spawner.children or spawner.offered:
            self._core.log.emit(
                SpawnerDied(
                    service=self._service,
                    pid=spawner.pid,
                    outcome=outcome,
                    children=len(spawner.children),
                    offers=len(spawner.offered),
                )
            )
            if not spawner.children and not spawner.offered:
                self.hold_off()
        self._pool.on_spawner_exit(spawner)
        self._clean_up()

    def retire(self) -> None:
        """Start no more; they end with their last children."""
        self.retired = True
        self._core.structure_changed()
        for spawner in self.spawners:
            spawner.retire()
            if not spawner.began:
                self._make_sure_later(spawner)  # it has nothing yet, and may not read that for long, or ever
        self._clean_up()

    def kill(self) -> None:
        """End whoever is left: workers before their spawner, without which nobody could prove whose they are."""
        for taker in (*self._pool.takers, *self.spawners):
            taker.send_signal(signal.SIGKILL)

    def _clean_up(self) -> None:
        # Orphans may still use their control files; they are few, and the files go with the next start's directory.
        if self.retired and not self.spawners and self.plan.control_directory:
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

"""The workers of a service: one spawner that has loaded the handler, and the workers it is asked to make."""

import signal
from collections.abc import Callable, Iterator
from functools import partial

from tcppar.config import ServiceConfig
from tcppar.events import WorkerEnded, WorkerStarted
from tcppar.net import channel as channels
from tcppar.policy import outcome, staffing
from tcppar.policy.outcome import is_end
from tcppar.records import Busy, Ended, Failed, Leaving, Ready, Refused, Report, Taken
from tcppar.supervisor.connection import Connection
from tcppar.supervisor.dispatch.answers import Debt
from tcppar.supervisor.dispatch.debts import spawner_debts, worker_debts
from tcppar.supervisor.dispatch.idle_workers import IdleWorkers
from tcppar.supervisor.dispatch.pool import Pool
from tcppar.supervisor.dispatch.spawner_process import SpawnerProcess
from tcppar.supervisor.dispatch.taker import Taker, TakerState, expect
from tcppar.supervisor.dispatch.takings import Takings
from tcppar.supervisor.dispatch.worker_process import WorkerProcess
from tcppar.supervisor.snapshot import PoolRecord, WorkerRecord

_READY = TakerState.READY

# Who has closed its channel ends at once.
_LOSS_PATIENCE = 0.5
# Of a worker that is not known any more its spawner tells that it was made, and that it has ended.
_MOST_STRAYS = 2


class WorkerPool(Pool):
    """A pool whose spawner makes workers. Who has had the last connection gets the next: it is the warmest."""

    def _set_up(self) -> None:
        self.workers: dict[int, WorkerProcess] = {}
        self._idle = IdleWorkers(self._core, self._surplus)
        self._takings = Takings(self._core, self.workers, self._has_taken)
        self._growth_watched = False
        self._strays = self._first_workers = 0
        self.want = "no worker has started"

    def _go_on(self, former: PoolRecord) -> None:
        super()._go_on(former)
        spawners = {spawner.pid: spawner for spawner in self.crew.spawners}
        for record in former.workers:
            if (spawner := spawners.get(record.spawner)) is not None and record.taker.is_there:
                end = channels.taken_up(record.taker.descriptor)
                worker = WorkerProcess(self, self._parts, end, record.number, spawner)
                worker.go_on_as_worker(record)
                worker.follow_log(self._owner.name, record.taker)
                self.workers[record.number] = worker

    def _describe_workers(self) -> list[WorkerRecord]:
        return [worker.describe_worker() for worker in self.workers.values() if worker.state is not TakerState.LOST]

    @property
    def number_of_workers(self) -> int:
        """How many there are."""
        return len(self.workers)

    @property
    def takers(self) -> list[Taker]:
        """All who can have connections of the pool's."""
        return [*self.workers.values()]

    def find_idle(self) -> None:
        """After taking over: who has no connection is idle; of the others, what they have read is looked for."""
        for worker in self.workers.values():
            if not worker.offered and not worker.children:
                self._idle.add(worker)
            elif worker.offered:
                self._takings.expect()

    def take_settings(self, config: ServiceConfig) -> None:
        """Go on with settings that make the same workers."""
        super().take_settings(config)
        self._bounds = config.settings.workers

    # Handing over.

    @property
    def is_short(self) -> bool:
        """Whether nobody can take a client, not even later: those that are starting may never begin. Busy ones can."""
        return not any(worker.began for worker in self.workers.values())

    def choose(self) -> Taker | None:
        """An idle worker, which stays among the idle until it has been offered something; None if there is none."""
        if (worker := self._idle.choose()) is not None:
            return worker
        if not self._growth_watched:
            self._growth_watched = True
            self._core.timers.at(self._core.later(staffing.PATIENCE), self._may_grow)
        return None

    def _may_grow(self) -> None:
        self._growth_watched = False
        self.may_be_small = True

    def on_engaged(self, worker: WorkerProcess, connection: Connection) -> None:
        """The worker that was chosen has been offered a connection."""
        self._idle.engaged(worker)
        self._parts.table.expect_child(worker.pid, connection)
        worker.serves(connection)
        self._takings.expect()

    def _has_taken(self, worker: WorkerProcess) -> None:
        for number in list(worker.offered):
            self._owner.on_taken(worker, Taken(number, worker.pid, 0.0))
        worker.settle()

    # More and fewer.

    def prepare(self, former: Pool | None, on_first_ready: Callable[[Refused | None], None]) -> None:
        """Start a spawner, and as many workers as the former pool has. Else all who come while these are being made,
        which under load took more than a second for two dozen, would wait for the first ones.
        """
        there = 0 if former is None else former.number_of_workers
        self._first_workers = min(max(self._bounds.least, there), self._bounds.most)
        super().prepare(former, on_first_ready)

    def on_spawner_ready(self) -> None:
        """It can make workers."""
        if self.crew.on_first_ready is not None:
            spawner = self.crew.spawners[0]
            while len(self.workers) < self._first_workers and self._try_to_hire(spawner):
                pass
        self._ready_if_complete()

    def _ready_if_complete(self) -> None:
        """To be short of some workers is no reason to refuse: more are hired when it can be done."""
        if self.crew.on_first_ready is None:
            return
        if not any(worker.state is TakerState.STARTING for worker in self.workers.values()):
            self.crew.first(None)

    def grow(self, waiting: int, waiting_since: float) -> None:
        """Hire if workers are too few, and replace the spawner if it is gone."""
        self.may_be_small = False
        crew = self.crew
        if not crew.may_start:
            return
        if not any(spawner.state in (TakerState.STARTING, _READY) for spawner in crew.spawners):
            try:
                crew.start_one()
            except OSError as error:
                crew.start_failed(error.errno or 0)
        spawner = next((spawner for spawner in crew.spawners if spawner.state is _READY), None)
        if spawner is None:
            return
        waited = self._core.now - waiting_since if waiting else None
        while self._wants_another(waited) and self._try_to_hire(spawner):
            pass

    def _try_to_hire(self, spawner: SpawnerProcess) -> bool:
        try:
            self._hire(spawner)
        except OSError as error:
            self.crew.start_failed(error.errno or 0)
            return False
        return True

    def _wants_another(self, waited: float | None) -> bool:
        starting = sum(worker.state is TakerState.STARTING for worker in self.workers.values())
        return staffing.wants_another(self._bounds, workers=len(self.workers), starting=starting, waited=waited)

    def _hire(self, spawner: SpawnerProcess) -> None:
        self._core.structure_changed()
        number = self._core.number_of_next_worker()
        self.workers[number] = WorkerProcess.hired(self, self._parts, number, spawner, self._owner.name)
        self.watch_answers()
        self._idle.watch_surplus()

    def _surplus(self) -> int:
        return 0 if self.crew.retired else len(self.workers) - self._bounds.least

    def retire(self) -> None:
        """Take no more connections; workers end with the one that they have, and the spawner with the last worker."""
        self._idle.clear()
        for worker in self.workers.values():
            worker.retire()
        super().retire()

    # What they say.

    def on_spawner_report(self, spawner: SpawnerProcess, report: Report) -> None:
        """The spawner tells of a worker.

        Raises:
            Misconduct: it tells of what was not asked of it.
        """
        if not isinstance(report, Taken | Ended | Busy | Failed):
            expect(False, report)
            return
        # One that is not known any more had lost its channel and was forgotten with it.
        worker = self.workers.get(report.number)
        expect(worker is None or worker.spawner is spawner, report)
        expect(-self._core.workers_hired <= report.number < 0, report)
        if worker is not None:
            self._on_spawner(worker, report)
        else:
            self._strays += 1
            expect(self._strays <= _MOST_STRAYS * self._core.workers_hired, report)

    def _on_spawner(self, worker: WorkerProcess, report: Taken | Ended | Busy | Failed) -> None:
        if isinstance(report, Taken):
            # Told once: each time is a record, and there is room for a hundred thousand in one frame.
            expect(worker.pid in (0, report.pid) and not worker.is_made, report)
            worker.is_made = True
            worker.pid = report.pid
            self._core.structure_changed()
            self._core.log.emit(WorkerStarted(service=self._owner.name, pid=report.pid, workers=len(self.workers)))
        elif isinstance(report, Ended):
            self._worker_ended(worker, report)
        else:
            self._not_made(worker, report)

    def on_report(self, worker: WorkerProcess, report: Report) -> None:
        """A worker reports.

        Raises:
            Misconduct: it tells of what was not asked of it, or of another's.
        """
        if isinstance(report, Ended):
            its = report.number in worker.offered or report.number in worker.children
            expect(its and is_end(report.status), report)
            self._conversation_ended(worker, report)
        elif isinstance(report, Taken):
            expect(report.number in worker.offered and not self._core.features.tells_unread, report)
            self._owner.on_taken(worker, report)
            worker.settle()
        elif isinstance(report, Busy):
            # It could not receive a descriptor: its own table is full, which is no shortage of anybody else's.
            expect(report.number in worker.offered and worker.has_said_goodbye, report)
            self._owner.offer_again(worker.offered.pop(report.number))
            worker.settle()
        elif isinstance(report, Ready):
            # Its process id is told by its spawner too, but perhaps later.
            expect(not worker.began and worker.pid in (0, report.pid) and report.pid > 0, report)
            self._worker_began(worker, report)
        else:
            expect(isinstance(report, Leaving) and not worker.has_said_goodbye, report)
            worker.has_said_goodbye = True
            self.on_retiring(worker)
            worker.state = TakerState.RETIRING
            worker.leaving = True
            self._core.structure_changed()

    def _conversation_ended(self, worker: WorkerProcess, ended: Ended) -> None:
        if worker.log is not None:
            worker.log.conversation_over()
        connection = worker.offered.pop(ended.number, None)
        if connection is not None:
            self._owner.end_untaken(connection, ended)
        else:
            self._owner.end(worker.children.pop(ended.number), ended)
        worker.settle()
        self._idle.add(worker)

    def _worker_began(self, worker: WorkerProcess, ready: Ready) -> None:
        worker.pid = ready.pid
        worker.began = True
        if worker.state is TakerState.STARTING:
            worker.state = _READY
            self._core.structure_changed()
            self.crew.start_worked()
            self._idle.add(worker)
            self._ready_if_complete()

    def _debts(self) -> Iterator[Debt]:
        yield from spawner_debts(self.crew.spawners)
        yield from worker_debts(self.workers.values(), self._core.now)

    def give_up(self, worker: WorkerProcess, reason: str) -> None:
        """End one that does not answer, or says what cannot be so. What it has not read goes to another when the system
        has closed its channel.
        """
        self._idle.remove(worker)
        worker.retire()
        worker.kill_for(reason, service=self._owner.name, role="worker")
        self._core.timers.at(self._core.later(_LOSS_PATIENCE), partial(self._make_sure, worker))

    def _make_sure(self, worker: WorkerProcess) -> None:
        if self.workers.get(worker.number) is worker and (worker.given_up or not worker.children):
            worker.send_signal(signal.SIGKILL)

    def on_retiring(self, worker: WorkerProcess) -> None:
        """It is to end, which it may not do."""
        worker.retired_at = self._core.now
        self.watch_answers()

    def _not_made(self, worker: WorkerProcess, report: Busy | Failed) -> None:
        worker.lose_channel()
        self._forget(worker)
        self.crew.start_failed(report.errno if isinstance(report, Busy) else 0)

    def on_channel_closed(self, worker: WorkerProcess) -> None:
        """A worker ends. What it was offered and has not taken is offered to another at once; what it has taken ends
        when the worker is reaped, and it is known how."""
        worker.lost_at = self._core.now
        self.watch_answers()
        # One that does not end by itself then is of no use to anybody, but for a client that it has.
        self._core.timers.at(self._core.later(_LOSS_PATIENCE), partial(self._make_sure, worker))
        self._idle.remove(worker)
        if worker.offered and self._core.features.tells_unread and not worker.left_unread:
            self._has_taken(worker)
        for connection in list(worker.offered.values()):
            self._settle_untold(connection)
        worker.offered.clear()
        if worker.spawner not in self.crew.spawners:
            for connection in list(worker.children.values()):
                self._reaper.look_after(connection)
            self._forget(worker)  # nobody will tell us of its end

    def _worker_ended(self, worker: WorkerProcess, ended: Ended) -> None:
        # A process that it has left behind may keep its channel open, whose end would else tell what it has read.
        if worker.offered and self._core.features.tells_unread and worker.has_read():
            self._has_taken(worker)
        worker.read_to_the_end()
        for connection in list(worker.children.values()):
            self._owner.end(connection, Ended(connection.number, ended.status, ended.cpu_seconds, ended.peak_memory_kb))
        worker.children.clear()
        self._forget(worker)
        how = outcome.in_words(ended.status or 0)
        name, left = self._owner.name, len(self.workers)
        self._core.log.emit(WorkerEnded(service=name, pid=worker.pid, outcome=how, asked=worker.leaving, workers=left))
        if not worker.began:
            self.crew.hold_off()  # it never began: the next would not either

    def _forget(self, worker: WorkerProcess) -> None:
        self.workers.pop(worker.number, None)
        self.may_be_small = True
        self._ready_if_complete()
        self._core.structure_changed()

    def on_spawner_exit(self, spawner: SpawnerProcess) -> None:
        """The spawner is dead. Its workers serve the connections that they have to the end, and no more."""
        super().on_spawner_exit(spawner)
        for worker in list(self.workers.values()):
            if worker.spawner is spawner:
                worker.retire()
                for connection in list(worker.children.values()):
                    self._reaper.look_after(connection)
                if worker.state is TakerState.LOST:
                    self._forget(worker)

"""The workers of a pool that wait for work. Who has had the last connection gets the next: it is the warmest."""

from collections.abc import Callable

from tcppar.policy import staffing
from tcppar.supervisor.core import Core
from tcppar.supervisor.dispatch.taker import TakerState
from tcppar.supervisor.dispatch.worker_process import WorkerProcess

# Members of an enum are looked up slowly: this one is asked for at every hand-over.
_READY = TakerState.READY


class IdleWorkers:
    """Of one pool.

    Args:
        surplus: how many workers the pool has beyond its least number; 0 or less for none.
    """

    def __init__(self, core: Core, surplus: Callable[[], int]) -> None:
        self._core = core
        self._surplus = surplus
        self._workers: list[WorkerProcess] = []
        self._dismissals_watched = False

    def add(self, worker: WorkerProcess) -> None:
        """It has nothing to do any more, if that is so.

        A supervisor that takes over hears of what was known before: the worker may have the next connection by now.
        """
        if worker.state is _READY and not worker.offered and not worker.children:
            worker.idle_since = self._core.now
            self._workers.append(worker)

    def choose(self) -> WorkerProcess | None:
        """The next one to be asked, which stays here until it was; None if there is none."""
        workers = self._workers
        while workers:
            if workers[-1].state is _READY:
                return workers[-1]
            workers.pop()
        return None

    def engaged(self, worker: WorkerProcess) -> None:
        """The one that was chosen was asked."""
        assert self._workers[-1] is worker
        self._workers.pop()

    def remove(self, worker: WorkerProcess) -> None:
        """It gets no more work."""
        if worker in self._workers:
            self._workers.remove(worker)

    def clear(self) -> None:
        """None gets any more."""
        self._workers.clear()

    def watch_surplus(self) -> None:
        """See to it that those are dismissed that are too many, when they have been idle long."""
        if self._surplus() > 0 and not self._dismissals_watched:
            self._dismissals_watched = True
            self._core.timers.at(self._core.later(staffing.IDLE_PERIOD), self._dismiss)

    def _dismiss(self) -> None:
        """Those that have been idle longest stand first."""
        self._dismissals_watched = False
        oldest = self._core.now - staffing.IDLE_PERIOD
        surplus = max(self._surplus(), 0)
        for worker in [worker for worker in self._workers[:surplus] if worker.idle_since <= oldest]:
            self._workers.remove(worker)
            worker.retire()
        self.watch_surplus()

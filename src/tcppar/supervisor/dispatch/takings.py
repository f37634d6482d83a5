"""Finding out what workers have taken, of which they say nothing."""

from collections.abc import Callable, Mapping

from tcppar.supervisor.core import Core
from tcppar.supervisor.dispatch.worker_process import WorkerProcess

# How long our copy of a connection may stay open beside its worker's.
_LONGEST_UNTAKEN = 0.01


class Takings:
    """Those of a pool's workers. Most conversations are over before anybody would want to know who has them. Of the
    others, our copies of the connections are closed when it is found out.

    Args:
        workers: of the pool, by number.
        has_taken: called with one that has read what it was offered.
    """

    def __init__(
        self, core: Core, workers: Mapping[int, WorkerProcess], has_taken: Callable[[WorkerProcess], None]
    ) -> None:
        self._core = core
        self._workers = workers
        self._has_taken = has_taken
        self._watched = False

    def expect(self) -> None:
        """One was offered something."""
        if not self._watched and self._core.features.tells_unread:
            self._watched = True
            self._core.timers.at(self._core.later(_LONGEST_UNTAKEN), self._look)

    def _look(self) -> None:
        self._watched = False
        for worker in self._workers.values():
            if worker.offered:
                if worker.has_read():
                    self._has_taken(worker)
                else:
                    self.expect()

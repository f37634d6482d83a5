"""Stopping: each phase of it, from the first request until nothing is left."""

from tcppar.events import Stopped, Stopping
from tcppar.supervisor.running import Phase, Running
from tcppar.supervisor.service import Service

LAST_SECONDS = 2.0


class Stop:
    """The end of the server, and of each service that a reload has removed."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._core = running.core

    def begin(self, reason: str) -> None:
        """Drain."""
        running = self._running
        running.refused = None
        self._core.log.emit(Stopping(reason=reason, connections=len(running.table)))
        running.phase = Phase.DRAINING
        running.for_all(Service.stop)

    def hurry(self) -> None:
        """One step further."""
        running = self._running
        if running.phase is Phase.DRAINING:
            running.phase = Phase.TERMINATING
            running.for_all(Service.terminate)
        elif running.phase is Phase.TERMINATING:
            running.phase = Phase.KILLING
            running.for_all(Service.kill)

    def tend(self) -> None:
        """Part with what is finished; when nothing is left, with the spawners, and then with the loop."""
        running = self._running
        for service in list(running.leaving):
            service.tend()
            if service.finished:
                running.leaving.remove(service)
                service.dismiss()
        stopping = running.phase in (Phase.DRAINING, Phase.TERMINATING, Phase.KILLING)
        if (
            stopping
            and not running.leaving
            and not running.enforcer
            and all(service.finished for service in running.services.values())
        ):
            running.for_all(Service.dismiss)
            self.dismiss()
        if running.phase is Phase.DISMISSING and not running.reaper.spawners and not running.parts.logs:
            running.phase = Phase.STOPPED
            self._say_stopped()

    def dismiss(self) -> None:
        """Wait for the spawners to end, for a while."""
        self._running.phase = Phase.DISMISSING
        self._core.timers.at(self._core.later(LAST_SECONDS), self._end_spawners)

    def _end_spawners(self) -> None:
        """Wait no longer for spawners, nor for what somebody might still write who has a child's descriptor 2."""
        for crew in self._running.reaper.crews:
            crew.kill()
        self._running.parts.logs.finish()

    def _say_stopped(self) -> None:
        if self._running.refused is None:
            c = self._core.counters
            self._core.log.emit(
                Stopped(
                    accepted=c.accepted,
                    ended=c.ended,
                    refused=c.refused,
                    strikes=c.strikes,
                    resets=c.resets,
                    client_faults=c.client_faults,
                )
            )

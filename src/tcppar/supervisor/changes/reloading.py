"""Starting and reloading: both are a rollout of a configuration, and differ in what is said of it."""

import os
from collections.abc import Callable, Sequence

from tcppar.config import Config
from tcppar.errors import ConfigurationError, SystemRefused
from tcppar.events import Listening, Reloaded, ReloadFailed, SharedUser
from tcppar.settings import ServerSettings
from tcppar.supervisor.changes.agenda import Agenda, Change
from tcppar.supervisor.changes.rollout import Renewal, Rollout
from tcppar.supervisor.changes.source_watch import SourceWatch
from tcppar.supervisor.running import Phase, Running


class Reloading:
    """Puts configurations in force.

    Args:
        reread: reads the configuration again; raises ConfigurationError.
        announce: called once with the addresses, when every listener is open and served.
        on_start: called before that.
        dismiss: ends what a refused start has begun.

    Attributes:
        rollout: the one under way.
    """

    def __init__(
        self,
        running: Running,
        agenda: Agenda,
        *,
        reread: Callable[[], Config],
        announce: Callable[[Sequence[str]], None],
        on_start: Callable[[], None],
        dismiss: Callable[[], None],
    ) -> None:
        self._running = running
        self._agenda = agenda
        self._core = running.core
        self._reread = reread
        self._announce = announce
        self._on_start = on_start
        self._dismiss = dismiss
        self._sources = SourceWatch(running.core, self.reload)
        self.rollout: Rollout | None = None

    def roll_out(self, config: Config, renewal: Renewal = Renewal.AS_NEEDED) -> None:
        """Put a configuration in force, all or nothing."""
        running = self._running
        self._agenda.begin()
        self.rollout = Rollout(
            config,
            running.services,
            running.parts,
            running.reaper,
            running.enforcer,
            on_ready=self._switch,
            on_refused=self._refused,
            renewal=renewal,
        )
        self.rollout.prepare()

    def reload(self) -> None:
        """Read the configuration again, and put it in force."""
        if self._running.is_stopping:
            return
        if self._agenda.is_busy:
            self._agenda.put_off(Change.RELOAD, self.reload)
            return
        try:
            config = self._reread()
        except ConfigurationError as error:
            self._core.log.emit(ReloadFailed(mistakes=error.mistakes))
            return
        self.roll_out(config)

    def give_up(self, reason: str) -> None:
        """Leave everything as it is, if something is under way."""
        if self.rollout is not None:
            self.rollout.give_up(reason)

    def _switch(self, rollout: Rollout) -> None:
        switched = rollout.switch()
        running = self._running
        running.config = rollout.config
        running.leaving.extend(switched.leaving)
        self._core.log.use(rollout.config.server.log_format)
        self._watch_sources(rollout.config.server)
        if running.phase is Phase.STARTING:
            running.phase = Phase.SERVING
            self._on_start()
            self._warn_of_shared_user()
            self._say_listening()
            self._announce(running.addresses)
        else:
            if rollout.renewal is not Renewal.NOTHING:
                removed = tuple(service.name for service in switched.leaving)
                self._core.log.emit(Reloaded(added=switched.added, changed=switched.changed, removed=removed))
            self._say_listening()
        self._over()

    def _watch_sources(self, settings: ServerSettings) -> None:
        services = self._running.services.values() if settings.reload else ()
        pools = [service.pool for service in services if service.pool is not None]
        self._sources.watch(file for pool in pools for file in pool.crew.sources)

    def _warn_of_shared_user(self) -> None:
        user = os.geteuid()
        shared = [
            service.name
            for service in self._running.services.values()
            if service.config.identity is None or service.config.identity.uid == user
        ]
        if shared:
            self._core.log.emit(SharedUser(services=tuple(shared), user=user))

    def _say_listening(self) -> None:
        for service in self._running.services.values():
            for acceptor in service.acceptors:
                if not acceptor.announced:
                    acceptor.announced = True
                    self._core.log.emit(Listening(address=str(acceptor.listener), service=service.name))

    def _refused(self, reasons: list[str], mistake: bool) -> None:
        if self._running.phase is Phase.STARTING:
            text = "; ".join(reasons)
            self._running.refused = ConfigurationError([text]) if mistake else SystemRefused(text)
            self._dismiss()
        else:
            self._core.log.emit(ReloadFailed(mistakes=tuple(reasons)))
            if self.rollout is not None:
                self._sources.watch_too(self.rollout.sources)
        self._over()

    def _over(self) -> None:
        self.rollout = None
        self._agenda.over()

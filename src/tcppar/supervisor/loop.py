"""The supervisor's loop: wait, accept, hand over, keep house. Starting, reloading and stopping are states of it."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from enum import Enum
from signal import Signals

import tcppar
from tcppar.config import Config
from tcppar.errors import ConfigurationError, SystemRefused, TcpparError, as_refusal
from tcppar.events import (
    KeeperLost,
    Listening,
    Recovered,
    Reloaded,
    ReloadFailed,
    SharedUser,
    Stopped,
    Stopping,
    Upgraded,
)
from tcppar.net import calls, platform
from tcppar.policy.strikes import Verdict
from tcppar.settings import ServerSettings
from tcppar.supervisor.changes import watchdog
from tcppar.supervisor.changes.lifeline import Lifeline
from tcppar.supervisor.changes.rollout import Renewal, Rollout
from tcppar.supervisor.changes.source_watch import SourceWatch
from tcppar.supervisor.connections.enforcer import Enforcer
from tcppar.supervisor.connections.table import Table
from tcppar.supervisor.core import Core
from tcppar.supervisor.dispatch.child_logs import ChildLogs
from tcppar.supervisor.dispatch.parts import Parts
from tcppar.supervisor.dispatch.reaper import Reaper
from tcppar.supervisor.service import Service
from tcppar.supervisor.snapshot import Snapshot
from tcppar.supervisor.succession import handing_on, upgrade
from tcppar.supervisor.succession.ledger import Ledger
from tcppar.supervisor.succession.takeover import Succession, Takeover, describe
from tcppar.supervisor.succession.upgrade import Upgrade

CAUGHT = (
    Signals.SIGCHLD,
    Signals.SIGTERM,
    Signals.SIGINT,
    Signals.SIGHUP,
    Signals.SIGUSR1,
    Signals.SIGUSR2,
)
# Their default is to end the process, which nobody who sends them to a server means; or to stop it, when it writes to a
# terminal that somebody else has made refuse that (TOSTOP, termios(3)).
IGNORED = (Signals.SIGVTALRM, Signals.SIGPIPE, Signals.SIGIO, Signals.SIGTTOU)

_LAST_SECONDS = 2.0
# When the books could not be kept, the loop comes round again this soon.
_BOOKS_PAUSE = 0.05
# How long a slow reader of the log may hold up an upgrade, during which nobody is served.
_LAST_MOMENT = 0.1


class Phase(Enum):
    """The life of a server. Each asked-for stop goes one step further."""

    STARTING = "nothing is accepted yet"
    SERVING = "clients are served"
    DRAINING = "no new clients, children finish by themselves"
    TERMINATING = "children are asked to end"
    KILLING = "children are ended"
    DISMISSING = "no connection is left, the spawners end"
    STOPPED = "done"


class Supervisor:
    """The parent of it all.

    Args:
        config: what to serve.
        reread: reads the configuration again (SIGHUP); raises ConfigurationError.
        announce: called once with the addresses, when every listener is open and served.
        lifeline: a descriptor at whose end it stops as after SIGTERM.
        succession: who came before it, and how the next one comes.
    """

    def __init__(
        self,
        config: Config,
        core: Core,
        *,
        reread: Callable[[], Config],
        announce: Callable[[Sequence[str]], None],
        succession: Succession,
        lifeline: int | None = None,
    ) -> None:
        self._core = core
        self._succession = succession
        self._reread = reread
        self._announce = announce
        self._lifeline = lifeline
        # The books that are kept; what only who keeps them can do is asked of these.
        self._ledger = core.books if isinstance(core.books, Ledger) else None
        self._table = Table(core)
        self._parts = Parts(core, self._table, ChildLogs(core))
        self._reaper = Reaper(core, self._table)
        self._enforcer = Enforcer(core, self._table, self._reaper)
        self._services: dict[str, Service] = {}
        self._leaving: list[Service] = []
        self._phase = Phase.STARTING
        self._start_refused: TcpparError | None = None
        self._rollout: Rollout | None = None
        self._reload_asked = False
        self._first_config = config
        self._config = config if succession.left is None else succession.left.config
        self._sources = SourceWatch(core, self._reload)
        self._upgrade = Upgrade(core, self._reaper, self._replacement_is_ready, succession.answers)
        self._upgrade_asked = False
        self._replacement_due = False
        self._keeper = succession.keeper
        core.waiter.on_strike = self._wait_failed
        core.waiter.on_shortage = self._watch_failed

    def run(self) -> None:
        """Serve until a stop is asked for and done.

        Raises:
            SystemRefused, ConfigurationError: it cannot start.
        """
        core = self._core
        waiter, timers, log = core.waiter, core.timers, core.log
        self._begin()
        while self._phase is not Phase.STOPPED:
            ready = waiter.wait(min(timers.next_at, log.due_at))
            core.now = now = time.monotonic()
            for source in ready:
                source.on_ready()
            if waiter.signalled:
                for number in waiter.take_signals():
                    self._obey(number)
            if now >= timers.next_at:
                timers.run_due(now)
            self._tend()
            if self._ledger is not None:
                self._keep_books(self._ledger)
            if now >= log.due_at:
                log.flush()
        log.finish(_LAST_SECONDS)
        if self._start_refused is not None:
            raise self._start_refused

    def _begin(self) -> None:
        self._core.waiter.catch(CAUGHT)
        for number in IGNORED:
            signal.signal(number, signal.SIG_IGN)
        calls.catch_alarm()
        if self._lifeline is not None:
            Lifeline(self._lifeline, self._core.waiter, self._lose_lifeline)
        self._hear_of_keeper()
        watchdog.begin(self._core, self._keeper)
        if self._succession.left is None:
            self._roll_out(self._first_config)
        else:
            self._take_over(self._succession.left)
        self._look_for_keeper()
        if self._ledger is not None:
            self._ledger.hold_reserve()
        upgrade.show_answers(self._succession.answers, refused=False)
        self._tend()  # if it was refused at once, there is nothing to wait for

    def _tend(self) -> None:
        for service in self._services.values():
            service.tend()
        if self._leaving or self._phase is not Phase.SERVING:
            self._let_go()
        if self._replacement_due and self._rollout is None:
            self._replace()

    # Signals.

    def _obey(self, number: int) -> None:
        if number == Signals.SIGCHLD:
            self._reaper.reap()
            self._look_for_keeper()
        elif number == Signals.SIGUSR1:
            self._reset_all("requested by SIGUSR1")
        elif number == Signals.SIGHUP:
            self._reload()
        elif number == Signals.SIGUSR2:
            self._ask_for_upgrade()
        else:
            self._stop(Signals(number).name, again_hurries=number == Signals.SIGINT)

    # The keeper.

    def _hear_of_keeper(self) -> None:
        if self._keeper is not None and self._succession.news is not None:
            self._reaper.hear_of(self._succession.news, self._keeper)
            platform.hear_of_parents_end()

    def _look_for_keeper(self) -> None:
        """Go on alone if it is dead, which comes as SIGCHLD. What is open is ours as well, and stays so."""
        if self._keeper is not None and os.getppid() != self._keeper:
            self._reaper.hear_no_more(self._keeper)
            self._keeper = None
            self._core.log.emit(KeeperLost(pid=os.getpid()))

    def _watch_failed(self, error: OSError) -> None:
        self._core.fault("watch", "epoll_ctl", error.errno or 0, "tried again until it succeeds")

    def _wait_failed(self, error: OSError, verdict: Verdict) -> None:
        self._core.counters.strikes += 1
        self._core.note_faults()
        told = "tolerated" if verdict is Verdict.TOLERATE else "too many in a row, so every listener is reset"
        self._core.fault(("wait", verdict), "wait", error.errno or 0, told)
        if verdict is Verdict.RESET:
            self._reset_all("after too many failures of the wait in a row")

    def _reset_all(self, reason: str) -> None:
        for service in self._services.values():
            for acceptor in list(service.acceptors):
                acceptor.reset(reason)

    # Starting and reloading.

    def _roll_out(self, config: Config, renewal: Renewal = Renewal.AS_NEEDED) -> None:
        self._rollout = Rollout(
            config,
            self._services,
            self._parts,
            self._reaper,
            self._enforcer,
            on_ready=self._switch,
            on_refused=self._rollout_refused,
            renewal=renewal,
        )
        self._rollout.prepare()

    def _reload(self) -> None:
        if self._phase not in (Phase.STARTING, Phase.SERVING):
            return
        if self._rollout is not None:
            self._reload_asked = True  # the file may have changed since the one under way was read
            return
        try:
            config = self._reread()
        except ConfigurationError as error:
            self._core.log.emit(ReloadFailed(mistakes=error.mistakes))
            return
        self._roll_out(config)

    def _switch(self, rollout: Rollout) -> None:
        switched = rollout.switch()
        self._config = rollout.config
        self._leaving.extend(switched.leaving)
        self._core.log.use(rollout.config.server.log_format)
        self._watch_sources(rollout.config.server)
        if self._phase is Phase.STARTING:
            self._phase = Phase.SERVING
            if self._ledger is not None:
                self._keep_books(self._ledger)  # whoever hears of it may rely on it
            self._warn_of_shared_user()
            self._say_listening()
            self._announce(self._addresses())
        else:
            if rollout.renewal is not Renewal.NOTHING:
                removed = tuple(service.name for service in switched.leaving)
                self._core.log.emit(Reloaded(added=switched.added, changed=switched.changed, removed=removed))
            self._say_listening()
        self._rollout_over()

    def _watch_sources(self, settings: ServerSettings) -> None:
        services = self._services.values() if settings.reload else ()
        self._sources.watch(file for service in services if service.pool is not None for file in service.pool.sources)

    def _warn_of_shared_user(self) -> None:
        user = os.geteuid()
        shared = [
            service.name
            for service in self._services.values()
            if service.config.identity is None or service.config.identity.uid == user
        ]
        if shared:
            self._core.log.emit(SharedUser(services=tuple(shared), user=user))

    def _say_listening(self) -> None:
        for service in self._services.values():
            for acceptor in service.acceptors:
                if not acceptor.announced:
                    acceptor.announced = True
                    self._core.log.emit(Listening(address=str(acceptor.listener), service=service.name))

    def _addresses(self) -> list[str]:
        return [str(acceptor.listener) for service in self._services.values() for acceptor in service.acceptors]

    def _rollout_refused(self, reasons: list[str], mistake: bool) -> None:
        if self._phase is Phase.STARTING:
            text = "; ".join(reasons)
            self._start_refused = ConfigurationError([text]) if mistake else SystemRefused(text)
            self._dismiss()
        else:
            self._core.log.emit(ReloadFailed(mistakes=tuple(reasons)))
            if self._rollout is not None:
                self._sources.watch_too(self._rollout.sources)
        self._rollout_over()

    def _rollout_over(self) -> None:
        self._rollout = None
        if self._reload_asked:
            self._reload_asked = False
            self._core.timers.at(self._core.now, self._reload)
        elif self._upgrade_asked:
            self._core.timers.at(self._core.now, self._ask_for_upgrade)

    # Before and after this supervisor.

    def _take_over(self, left: Snapshot) -> None:
        """Go on in the place of another."""
        succession, core = self._succession, self._core
        self._rebuild(left)
        if self._ledger is None and succession.books is not None:
            succession.books.close()
        self._phase = Phase.SERVING
        if succession.upgraded:
            core.log.emit(
                Upgraded(version=tcppar.__version__, former_version=left.written_by, connections=len(self._table))
            )
        else:
            core.log.emit(Recovered(outcome=succession.former, pid=os.getpid(), connections=len(self._table)))
        if left.stopping:
            self._stop("continuing a stop")
        elif succession.upgraded:
            self._roll_out(self._first_config, Renewal.EVERYTHING)
        else:
            self._roll_out(left.config, Renewal.NOTHING)
        if self._ledger is not None:
            self._ledger.note_begun()

    def _rebuild(self, left: Snapshot) -> None:
        succession = self._succession
        assert succession.books is not None
        takeover = Takeover(succession, left, succession.books, self._parts, self._reaper, self._enforcer)
        takeover.rebuild()
        self._services, self._leaving = takeover.serving, takeover.leaving

    def rehearse(self) -> None:
        """In a trial: go on from the copy of another's books, as far as that can be done without serving."""
        assert self._succession.left is not None
        self._rebuild(self._succession.left)
        self._description()

    def _keep_books(self, ledger: Ledger) -> None:
        """Note for a next supervisor what this pass has changed. What was said stays to be read until that is done."""
        # A start that was refused leaves nothing to go on from: there, too, its end is the keeper's.
        if ledger.stale and self._phase is not Phase.STARTING and self._start_refused is None:
            try:
                self._save(ledger)
            except OSError as error:
                self._core.fault(("books",), "keep the books", error.errno or 0, "tried again until it succeeds")
                self._core.timers.at(self._core.later(_BOOKS_PAUSE), lambda: None)
                return
        self._core.settle()

    def _save(self, ledger: Ledger) -> None:
        services = (*self._services.values(), *self._leaving)
        handing_on.write_structure(ledger, self._description(), services)

    def _description(self) -> bytes:
        return describe(
            self._parts,
            self._reaper,
            self._config,
            self._services.values(),
            self._leaving,
            stopping=self._phase is not Phase.SERVING,
            strangers=self._succession.strangers,
        )

    def _ask_for_upgrade(self) -> None:
        self._upgrade_asked = False
        if self._phase not in (Phase.STARTING, Phase.SERVING):
            self._upgrade.refuse("the server is stopping")
        elif self._rollout is not None:
            self._upgrade_asked = True
        else:
            self._upgrade.ask(self._write_sample)

    def _write_sample(self, ledger: Ledger) -> None:
        handing_on.write_sample(ledger, self._table)
        self._save(ledger)

    def _replacement_is_ready(self) -> None:
        self._replacement_due = True

    def _replace(self) -> None:
        """Let the installed program go on from here."""
        if self._phase is not Phase.SERVING:
            self._replacement_due = False
            self._upgrade.refuse("the server is stopping")
        elif all(spawner.can_be_handed_on for spawner in self._reaper.spawners):
            self._replacement_due = False
            self._replace_now()

    def _replace_now(self) -> None:
        core, succession = self._core, self._succession
        replace = succession.replace_alone if self._keeper is None else succession.replace
        ledger = self._ledger
        try:
            ledger = ledger or Ledger.new()
            if self._ledger is None:
                handing_on.write_connections(ledger, core, self._table)
            self._save(ledger)
            core.log.finish(_LAST_MOMENT)
            core.settle()
            replace(ledger, self._upgrade.answers + 1)
        except (OSError, MemoryError, SystemRefused) as error:
            self._upgrade.refuse(str(as_refusal(error)))
            if self._ledger is None and ledger is not None:
                ledger.close()

    # Stopping.

    def _lose_lifeline(self) -> None:
        # Later in this pass, as a signal is: sources that are ready too have not been served yet.
        self._core.timers.at(self._core.now, lambda: self._stop("end of file on the lifeline"))

    def _stop(self, reason: str, *, again_hurries: bool = False) -> None:
        """The first request drains; SIGINT again, from somebody at the terminal, hurries one step further."""
        if self._phase in (Phase.STARTING, Phase.SERVING):
            if self._rollout is not None:
                self._rollout.give_up(f"stopped: {reason}")
            self._start_refused = None
            self._core.log.emit(Stopping(reason=reason, connections=len(self._table)))
            self._phase = Phase.DRAINING
            self._for_all(Service.stop)
        elif again_hurries and self._phase is Phase.DRAINING:
            self._phase = Phase.TERMINATING
            self._for_all(Service.terminate)
        elif again_hurries and self._phase is Phase.TERMINATING:
            self._phase = Phase.KILLING
            self._for_all(Service.kill)

    def _for_all(self, do: Callable[[Service], None]) -> None:
        for service in (*self._services.values(), *self._leaving):
            do(service)

    def _let_go(self) -> None:
        """Part with what is finished; when nothing is left, with the spawners, and then with the loop."""
        for service in list(self._leaving):
            service.tend()
            if service.finished:
                self._leaving.remove(service)
                service.dismiss()
        stopping = self._phase in (Phase.DRAINING, Phase.TERMINATING, Phase.KILLING)
        if (
            stopping
            and not self._leaving
            and not self._enforcer
            and all(service.finished for service in self._services.values())
        ):
            self._for_all(Service.dismiss)
            self._dismiss()
        if self._phase is Phase.DISMISSING and not self._reaper.spawners and not self._parts.logs:
            self._phase = Phase.STOPPED
            self._say_stopped()

    def _dismiss(self) -> None:
        self._phase = Phase.DISMISSING
        self._core.timers.at(self._core.later(_LAST_SECONDS), self._end_spawners)

    def _end_spawners(self) -> None:
        """Wait no longer for spawners, nor for what somebody might still write who has a child's descriptor 2."""
        for pool in self._reaper.pools:
            pool.kill()
        self._parts.logs.finish()

    def _say_stopped(self) -> None:
        if self._start_refused is None:
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

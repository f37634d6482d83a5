"""The supervisor's loop: wait, accept, hand over, keep house. Starting, reloading and stopping are states of it."""

import signal
import time
from collections.abc import Callable, Sequence
from signal import Signals

from tcppar.config import Config
from tcppar.net import calls
from tcppar.policy.strikes import Verdict
from tcppar.supervisor.changes import watchdog
from tcppar.supervisor.changes.agenda import Agenda
from tcppar.supervisor.changes.lifeline import Lifeline
from tcppar.supervisor.changes.reloading import Reloading
from tcppar.supervisor.changes.stopping import LAST_SECONDS, Stop
from tcppar.supervisor.core import Core
from tcppar.supervisor.running import Phase, Running
from tcppar.supervisor.succession.continuity import Continuity
from tcppar.supervisor.succession.place import Succession

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
        self.core = core
        self._first_config = config
        self._left = succession.left
        self._lifeline = lifeline
        agenda = Agenda(core)
        self.running = Running(core, config if self._left is None else self._left.config)
        self._continuity = Continuity(self.running, agenda, succession)
        self._stop = Stop(self.running)
        self.reloading = Reloading(
            self.running,
            agenda,
            reread=reread,
            announce=announce,
            on_start=self._continuity.keep_books,  # whoever hears of it may rely on it
            dismiss=self._stop.dismiss,
        )
        core.waiter.on_strike = self._wait_failed
        core.waiter.on_shortage = self._watch_failed

    def run(self) -> None:
        """Serve until a stop is asked for and done.

        Raises:
            SystemRefused, ConfigurationError: it cannot start.
        """
        core, running, continuity = self.core, self.running, self._continuity
        waiter, timers, log = core.waiter, core.timers, core.log
        self._begin()
        while running.phase is not Phase.STOPPED:
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
            if continuity.ledger is not None:
                continuity.keep_books()
            if now >= log.due_at:
                log.flush()
        log.finish(LAST_SECONDS)
        if running.refused is not None:
            raise running.refused

    def _begin(self) -> None:
        core, continuity = self.core, self._continuity
        core.waiter.catch(CAUGHT)
        for number in IGNORED:
            signal.signal(number, signal.SIG_IGN)
        calls.catch_alarm()
        if self._lifeline is not None:
            Lifeline(self._lifeline, core.waiter, self._lose_lifeline)
        continuity.hear_of_keeper()
        watchdog.begin(core, continuity.keeper)
        if self._left is None:
            self.reloading.roll_out(self._first_config)
        else:
            continuity.take_over(
                self._left, first=self._first_config, roll_out=self.reloading.roll_out, stop=self._stop.begin
            )
        continuity.look_for_keeper()
        continuity.begun()
        self._tend()  # if it was refused at once, there is nothing to wait for

    def _tend(self) -> None:
        running = self.running
        for service in running.services.values():
            service.tend()
        if running.leaving or running.phase is not Phase.SERVING:
            self._stop.tend()
        if self._continuity.replacement_is_due:
            self._continuity.replace_if_possible()

    def rehearse(self) -> None:
        """In a trial: go on from the copy of another's books, as far as that can be done without serving."""
        assert self._left is not None
        self._continuity.rehearse(self._left)

    # What is asked for.

    def _obey(self, number: int) -> None:
        if number == Signals.SIGCHLD:
            self.running.reaper.reap()
            self._continuity.look_for_keeper()
        elif number == Signals.SIGUSR1:
            self._reset_all("requested by SIGUSR1")
        elif number == Signals.SIGHUP:
            self.reloading.reload()
        elif number == Signals.SIGUSR2:
            self._continuity.ask_for_upgrade()
        else:
            self._ask_to_stop(Signals(number).name, again_hurries=number == Signals.SIGINT)

    def _ask_to_stop(self, reason: str, *, again_hurries: bool = False) -> None:
        """The first request drains; SIGINT again, from somebody at the terminal, hurries one step further."""
        if not self.running.is_stopping:
            self.reloading.give_up(f"stopped: {reason}")
            self._stop.begin(reason)
        elif again_hurries:
            self._stop.hurry()

    def _lose_lifeline(self) -> None:
        # Later in this pass, as a signal is: sources that are ready too have not been served yet.
        self.core.timers.at(self.core.now, lambda: self._ask_to_stop("end of file on the lifeline"))

    def _reset_all(self, reason: str) -> None:
        for service in self.running.services.values():
            for acceptor in list(service.acceptors):
                acceptor.reset(reason)

    # What fails.

    def _watch_failed(self, error: OSError) -> None:
        self.core.fault("watch", "epoll_ctl", error.errno or 0, "tried again until it succeeds")

    def _wait_failed(self, error: OSError, verdict: Verdict) -> None:
        self.core.counters.strikes += 1
        self.core.note_faults()
        told = "tolerated" if verdict is Verdict.TOLERATE else "too many in a row, so every listener is reset"
        self.core.fault(("wait", verdict), "wait", error.errno or 0, told)
        if verdict is Verdict.RESET:
            self._reset_all("after too many failures of the wait in a row")

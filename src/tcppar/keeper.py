"""The keeper: a small process that holds what must not be lost, and starts the supervisor again when it dies.

The supervisor is forked from it and shares its table of descriptors (CLONE_FILES, clone(2)). So the keeper holds
whatever the supervisor has open, without a message: listeners, channels, and each client from the moment of its accept.
With the books (supervisor/succession/ledger.py) the next supervisor finds all of it. Spawners and their children have
not noticed anything: their channels have never been closed.

It waits in one place, with all signals blocked, and serves nobody: there is little that could end it. And whatever
becomes of supervisors, a stop that is asked for is over in time: one that is not done by then is killed, and if there
is none that can stop in order, the keeper ends what is left.
"""

import math
import os
import signal
import sys
import time
from dataclasses import dataclass
from signal import Signals

from tcppar.errors import ExitCode, SystemRefused
from tcppar.net import platform, processes
from tcppar.net.signalling import send
from tcppar.policy import outcome
from tcppar.policy.strikes import Backoff
from tcppar.supervisor.dispatch.reaper import EXIT_NEWS
from tcppar.supervisor.loop import IGNORED
from tcppar.supervisor.succession import upgrade
from tcppar.supervisor.succession.cover import Cover
from tcppar.supervisor.succession.memory import new_books
from tcppar.supervisor.succession.upgrade import Left

REPLACE = 64
"""The exit code of a supervisor that is to be replaced by the installed program."""
REPLACED = "replaced"
"""How a supervisor ended that was."""

# What is meant for the supervisor goes there.
PASSED_ON = {Signals.SIGTERM, Signals.SIGINT, Signals.SIGHUP, Signals.SIGUSR1, Signals.SIGUSR2}
_STOPS = {Signals.SIGTERM, Signals.SIGINT}
_BLOCKED = PASSED_ON | {Signals.SIGCHLD}
_SI_KERNEL = 0x80
# One that lived so long did not die of what was left to it.
_LONG_LIFE = 0.2
_FIRST_DELAY = 0.02
_LONGEST_DELAY = 5.0
# After a stop was asked for, so many may die before they have come to serve.
_LAST_TRIES = 3
# What a supervisor may need for a stop besides the time that children have: spawners end, and the log is written.
_STOP_MARGIN = 10.0
# What has got SIGKILL is gone very soon, but for a process that a call of the system holds.
_LAST_SECONDS = 2.0
_LOOK = 0.05


@dataclass(frozen=True, slots=True)
class Kept:
    """What a supervisor has from its keeper.

    Attributes:
        keeper: its process id.
        ledger: the descriptor of the books.
        news: the pipe that tells of ends which the keeper sees in its place.
        found: descriptors that were open when it was started.
        former: how the one before it ended; empty for the first one.
    """

    keeper: int
    ledger: int
    news: tuple[int, int]
    found: set[int]
    former: str


class Keeper:
    """One keeper.

    Args:
        left: what a program before this one has left, when it was replaced: a keeper, or a supervisor whose keeper was
            killed.

    Raises:
        OSError: the system is short of something.
    """

    def __init__(self, left: Left | None) -> None:
        self._books = Cover(new_books() if left is None else left.ledger)
        if left is None or not left.keeper:
            reader, writer = os.pipe()
            os.set_blocking(reader, False)
            os.set_blocking(writer, False)
            self._news = reader, writer
        else:
            self._news = left.keeper[0], left.keeper[1]
        self._answers = 0 if left is None else left.answers
        self._former = "" if left is None else REPLACED
        self._pid = os.getpid()
        self._supervisor = 0
        self._status: int | None = None
        self._started_at = 0.0
        self._stops: list[Signals] = []
        self._stop_due_at = math.inf
        self._to_pass_on: list[Signals] = []
        self._failures = 0
        self._backoff = Backoff(_FIRST_DELAY, _LONGEST_DELAY)

    def run(self) -> Kept:
        """Keep. As fork(2), this returns in another process, each time that one is needed: in a supervisor. The keeper
        itself ends with the supervisor that has come to an asked-for end.

        Raises:
            OSError: the first supervisor cannot be started.
            SystemRefused: a stop was asked for, and nobody could do it in order.
        """
        platform.become_subreaper()
        _take_signals()
        while not self._is_over():
            if (found := self._start()) is not None:
                return Kept(self._pid, self._books.descriptor, self._news, found, self._former)
            self._watch()
        code = os.waitstatus_to_exitcode(self._status or 0)
        sys.exit(code if code >= 0 else ExitCode.SYSTEM)

    def _start(self) -> set[int] | None:
        """Start a supervisor. In it: the descriptors that were open then."""
        self._started_at = time.monotonic()
        try:
            self._books.note_start()
            self._books.let_reserve_go()
            found = platform.open_descriptors()
            pid = platform.fork_sharing_descriptors()
        except OSError:
            if not self._books.has_structure:
                raise
            self._status = ExitCode.SYSTEM << 8  # as if it had ended at once
            return None
        if pid == 0:
            return found
        self._supervisor = pid
        # The one before may have died before it could obey.
        self._to_pass_on[:0] = self._stops
        self._pass_on()
        return None

    def _pass_on(self) -> None:
        """What could not be sent is tried again: a stop that was lost would have to be made by force."""
        self._to_pass_on = [number for number in self._to_pass_on if not send(self._supervisor, number)]

    def _watch(self) -> None:
        """Until the supervisor has ended. One that has not obeyed a stop in time is killed."""
        while self._supervisor:
            again_at = time.monotonic() + _LOOK if self._to_pass_on else math.inf
            if self._take_signal(min(self._stop_due_at, again_at)):
                continue
            if time.monotonic() >= self._stop_due_at:
                send(self._supervisor, signal.SIGKILL)
                self._failures = _LAST_TRIES
                self._stop_due_at = math.inf
            else:
                self._pass_on()

    def _take_signal(self, deadline: float) -> bool:
        """Wait for a signal, and do what it asks for; False if there was none until then."""
        if deadline == math.inf:
            info = signal.sigwaitinfo(_BLOCKED)
        else:
            taken = signal.sigtimedwait(_BLOCKED, max(0.0, deadline - time.monotonic()))
            if taken is None:
                return False
            info = taken
        number = Signals(info.si_signo)
        if number == Signals.SIGCHLD:
            self._reap()
            return True
        if number in _STOPS:
            self._note_stop(number)
        if not self._supervisor:
            self._to_pass_on += () if number in _STOPS else (number,)
        elif info.si_code != _SI_KERNEL:  # what is typed at the terminal has come to the supervisor too
            self._to_pass_on.append(number)
            self._pass_on()
        return True

    def _note_stop(self, number: Signals) -> None:
        """It has to be over in time. Each further SIGINT hurries, as `Supervisor._stop` does."""
        self._stops.append(number)
        drain, kill = self._books.patience
        by_interrupts = (drain + kill, drain + kill, kill, 0.0)
        patience = by_interrupts[min(self._stops.count(Signals.SIGINT), len(by_interrupts) - 1)]
        self._stop_due_at = min(self._stop_due_at, time.monotonic() + patience + _STOP_MARGIN)

    def _reap(self) -> None:
        """Take all that have ended: the supervisor, and who became ours when its parent died."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if os.WIFSTOPPED(status):
                continue  # it has had itself traced by its parent (PTRACE_TRACEME, ptrace(2)), and lives
            if pid == self._supervisor:
                self._supervisor, self._status = 0, status
            else:
                self._tell(pid, status, usage.ru_utime + usage.ru_stime)

    def _tell(self, pid: int, status: int, cpu_seconds: float) -> None:
        try:
            os.write(self._news[1], EXIT_NEWS.pack(pid, status, cpu_seconds))
        except OSError:
            pass  # thousands are unread, or memory is short; who looks for a process that is gone finds out without us

    def _is_over(self) -> bool:
        """After a supervisor's end: whether it is ours too. If not, prepare for the next.

        Raises:
            SystemRefused: it is, and what was left had to be ended by us.
        """
        if self._status is None:
            return False
        code = os.waitstatus_to_exitcode(self._status)
        if code == REPLACE:
            self._replace()
        elif code == ExitCode.OK or not self._books.has_structure:
            return True
        else:
            self._former = outcome.in_words(self._status)
            self._prepare_for_next()
        return False

    def _replace(self) -> None:
        self._former = REPLACED
        try:
            upgrade.replace_program(Left(self._books.descriptor, self._news, self._answers + 1), _BLOCKED)
        except OSError as error:
            self._former = f"to be replaced, but {error.strerror}"
            self._answers += 1
            upgrade.show_answers(self._answers, refused=True)

    def _prepare_for_next(self) -> None:
        """Not at once if one after the other dies of what was left to it; and not for ever after a stop."""
        self._failures += 1
        if self._books.has_begun:
            self._backoff.succeed()
            self._failures = min(self._failures, 1) if self._stop_due_at < math.inf else 0
        if self._failures > _LAST_TRIES and self._stops:
            self._end_all()
            raise SystemRefused(
                f"stopped by force, because no supervisor could stop cleanly (the last one: {self._former})"
            )
        if not self._books.has_begun or time.monotonic() - self._started_at < _LONG_LIFE:
            self._pause(self._backoff.fail())

    def _pause(self, seconds: float) -> None:
        """Wait; a stop ends that."""
        deadline = time.monotonic() + seconds
        while not self._stops and self._take_signal(deadline):
            pass

    def _end_all(self) -> None:
        """End all children: spawners, and whoever becomes ours with their end."""
        _, kill = self._books.patience
        # SIGCONT for those that are stopped, as in supervisor/connections/enforcer.py.
        for numbers, seconds in (((signal.SIGTERM, signal.SIGCONT), kill), ((signal.SIGKILL,), _LAST_SECONDS)):
            deadline = time.monotonic() + seconds
            told = set[int]()
            while (children := _living_children()) and time.monotonic() < deadline:
                for pid in children - told:
                    for number in numbers:
                        send(pid, number)
                    told.add(pid)
                self._take_signal(time.monotonic() + _LOOK)


def _living_children() -> set[int]:
    return {process.pid for process in processes.children_of({os.getpid()}) if process.lives}


def _take_signals() -> None:
    """Block what is waited for, and set what whoever started us may have set otherwise. Where SIGCHLD is ignored, the
    system reaps children itself, and tells nobody of their end (wait(2)).
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)
    for number in (*IGNORED, Signals.SIGALRM):  # that one a supervisor catches, for its own sake
        signal.signal(number, signal.SIG_IGN)
    for number in PASSED_ON:
        # Never called; but whoever looks sees that such a signal does not end us, which the mask does not show while
        # we wait (`upgrading`).
        signal.signal(number, lambda number, frame: None)
    platform.hear_of_children()

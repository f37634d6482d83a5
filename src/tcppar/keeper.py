"""The keeper: a small process that holds what must not be lost, and starts the supervisor again when it dies.

The supervisor is forked from it and shares its table of descriptors (CLONE_FILES, clone(2)). So the keeper holds
whatever the supervisor has open, without a message: listeners, channels, and each client from the moment of its accept.
With the books (supervisor/ledger.py) the next supervisor finds all of it. Spawners and their children have not noticed
anything: their channels have never been closed.

It waits in one place, with all signals blocked, and serves nobody: there is little that could end it.
"""

import os
import signal
import sys
import time
from dataclasses import dataclass
from signal import Signals

from tcppar.errors import ExitCode
from tcppar.net import platform
from tcppar.policy import outcome
from tcppar.policy.strikes import Backoff
from tcppar.supervisor import upgrade
from tcppar.supervisor.ledger import Cover, new_books
from tcppar.supervisor.reaper import EXIT_NEWS
from tcppar.supervisor.upgrade import Left

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


@dataclass(frozen=True, slots=True)
class Kept:
    """What a supervisor has from its keeper.

    Attributes:
        ledger: the descriptor of the books.
        news: the pipe that tells of ends which the keeper sees in its place.
        found: descriptors that were open when it was started.
        former: how the one before it ended; empty for the first one.
    """

    ledger: int
    news: tuple[int, int]
    found: set[int]
    former: str


class Keeper:
    """One keeper.

    Args:
        left: what a keeper before this one has left, when the program was replaced.
    """

    def __init__(self, left: Left | None) -> None:
        if left is None:
            self._books = Cover(new_books())
            reader, writer = os.pipe()
            os.set_blocking(reader, False)
            os.set_blocking(writer, False)
            self._news = reader, writer
        else:
            self._books = Cover(left.ledger)
            self._news = left.keeper[0], left.keeper[1]
        self._former = "" if left is None else REPLACED
        self._supervisor = 0
        self._status: int | None = None
        self._started_at = 0.0
        self._stop_asked: set[Signals] = set()
        self._backoff = Backoff(_FIRST_DELAY, _LONGEST_DELAY)

    def run(self) -> Kept:
        """Keep. As fork(2), this returns in another process, each time that one is needed: in a supervisor. The keeper
        itself ends with the supervisor that has come to an asked-for end.
        """
        platform.become_subreaper()
        signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)
        while not self._is_over():
            self._books.note_start()
            found = platform.open_descriptors()
            self._supervisor = platform.fork_sharing_descriptors()
            if self._supervisor == 0:
                return Kept(self._books.descriptor, self._news, found, self._former)
            self._started_at = time.monotonic()
            for number in self._stop_asked:
                os.kill(self._supervisor, number)  # the one before may have died before it could obey
            self._watch()
        code = os.waitstatus_to_exitcode(self._status or 0)
        sys.exit(code if code >= 0 else ExitCode.SYSTEM)

    def _watch(self) -> None:
        """Until the supervisor has ended."""
        while self._supervisor:
            info = signal.sigwaitinfo(_BLOCKED)
            if info.si_signo == Signals.SIGCHLD:
                self._reap()
            elif info.si_code != _SI_KERNEL:  # what is typed at the terminal has come to the supervisor too
                self._pass_on(Signals(info.si_signo))

    def _pass_on(self, number: Signals) -> None:
        if number in _STOPS:
            self._stop_asked.add(number)
        os.kill(self._supervisor, number)

    def _reap(self) -> None:
        """Take all that have ended: the supervisor, and who became ours when its parent died."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._supervisor:
                self._supervisor, self._status = 0, status
            else:
                self._tell(pid, status, usage.ru_utime + usage.ru_stime)

    def _tell(self, pid: int, status: int, cpu_seconds: float) -> None:
        try:
            os.write(self._news[1], EXIT_NEWS.pack(pid, status, cpu_seconds))
        except BlockingIOError:
            pass  # thousands are unread; who looks for a process that is gone finds out without us

    def _is_over(self) -> bool:
        """After a supervisor's end: whether it is ours too. If not, prepare for the next."""
        if self._status is None:
            return False
        code = os.waitstatus_to_exitcode(self._status)
        if code == REPLACE:
            self._replace()
        elif code == ExitCode.OK or not self._books.has_structure:
            return True
        else:
            self._former = outcome.in_words(self._status)
            self._pause()
        return False

    def _replace(self) -> None:
        self._former = REPLACED
        try:
            upgrade.replace_program(Left(self._books.descriptor, self._news), _BLOCKED)
        except OSError as error:
            self._former = f"to be replaced, but {error.strerror}"

    def _pause(self) -> None:
        """Not at once if one after the other dies of what was left to it."""
        if self._books.has_begun:
            self._backoff.succeed()
        if time.monotonic() - self._started_at < _LONG_LIFE:
            signal.sigtimedwait([], self._backoff.fail())

"""Replacing the running program by the installed one: a trial first, then exec(3) in the same process.

What is kept across the exec: the process id, and so the children; every descriptor; signals that are pending; the
books. What is lost: memory.
"""

import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from tcppar.errors import SystemRefused, as_refusal
from tcppar.events import UpgradeFailed
from tcppar.net import calls, descriptor_limit, platform
from tcppar.policy import outcome
from tcppar.supervisor.core import Core
from tcppar.supervisor.dispatch.reaper import Reaper
from tcppar.supervisor.succession.ledger import Ledger

TRIAL = "TCPPAR_TRIAL"
"""The variable that makes a `tcppar serve` a trial: it holds the descriptor of a copy of the books."""
HERITAGE = "TCPPAR_HERITAGE"
"""The variable that makes it go on from the books (`Left`)."""

_TRIAL_PATIENCE = 30.0
_LARGEST_ANSWER = 65536
_LAST_STANDARD = 2
# What an interpreter has open at once when it starts, and a supervisor for itself, and some more.
_NEEDED_DESCRIPTORS = 16
_PASSED = 3
_NUMBERS_LEFT = (1, 3)  # the books; with a keeper its pipe too


def command() -> list[str]:
    """The words that this process was started with."""
    return [sys.executable, *sys.orig_argv[1:]]


@dataclass(frozen=True, slots=True)
class Left:
    """What a program has left to the one that replaces it.

    Attributes:
        ledger: the descriptor of the books.
        keeper: those that a keeper has use for; none from a supervisor.
        answers: how many upgrades were answered, this one too.
    """

    ledger: int
    keeper: tuple[int, ...]
    answers: int

    def __str__(self) -> str:
        return ":".join(map(str, (self.answers, self.ledger, *self.keeper)))

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Left | None":
        """What HERITAGE says; None if there is no such variable.

        Raises:
            SystemRefused: it was not written by us.
        """
        if HERITAGE not in environ:
            return None
        try:
            answers, *words = environ[HERITAGE].split(":")
            ledger, *keeper = descriptors = [descriptor_in(HERITAGE, word) for word in words]
            if len(descriptors) in _NUMBERS_LEFT:
                return cls(ledger, tuple(keeper), int(answers))
        except ValueError:
            pass
        raise SystemRefused(f"the variable {HERITAGE} is reserved for tcppar; unset it")


def ensure_room() -> None:
    """See to it that a program that begins with all of our descriptors has some left to begin with.

    Raises:
        OSError: there are too few.
    """
    with ExitStack() as stack:
        for _ in range(_NEEDED_DESCRIPTORS):
            stack.callback(os.close, os.dup(_LAST_STANDARD))


def descriptor_in(variable: str, text: str) -> int:
    """A descriptor that one of our variables names, and that is open."""
    try:
        number = int(text)
        os.fstat(number)
    except (ValueError, OverflowError, OSError):
        raise SystemRefused(f"the variable {variable} is reserved for tcppar; unset it") from None
    return number


def replace_program(left: Left, caught: set[signal.Signals]) -> None:
    """Go on as the installed program. Returns never, or with an exception.

    Raises:
        OSError: it cannot be run; everything is as before.
    """
    environment = os.environ | {HERITAGE: str(left)} | descriptor_limit.handed_on()
    # Between the end of our handlers and the start of its, they wait.
    ensure_room()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, caught)
    signal.signal(signal.SIGALRM, signal.SIG_IGN)  # what is armed goes off in the next program too
    crossing: list[int] = []
    try:
        for number in platform.open_descriptors():
            if number > _LAST_STANDARD and not os.get_inheritable(number):
                os.set_inheritable(number, True)
                crossing.append(number)
        os.execve(sys.executable, command(), environment)
    finally:
        for number in crossing:
            os.set_inheritable(number, False)
        calls.catch_alarm()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def keep_to_ourselves() -> None:
    """After an exec: let no child inherit what has crossed it."""
    for number in platform.open_descriptors():
        if number > _LAST_STANDARD:
            os.set_inheritable(number, False)


NAME = "tcppar serve"
"""The name of a server's process (/proc/PID/comm). The answer to the last upgrade stands behind it."""
UPGRADED, REFUSED = "+", "-"
_MOST_ANSWERS = 100


def show_answers(answers: int, *, refused: bool) -> None:
    """Show in the name of this process what came of the last upgrade, for whoever has asked for it: nobody else can
    write it, and everybody can read it, whatever user they are.
    """
    number = f"{REFUSED if refused else UPGRADED}{answers % _MOST_ANSWERS:02}" if answers else ""
    platform.set_name(NAME + number)


class Upgrade:
    """Whether the installed program can go on from here.

    Args:
        on_ready: called when it can.
        answers: how many upgrades were answered before.

    Attributes:
        under_way: whether that is being found out.
        answers: how many upgrades were answered.
    """

    def __init__(self, core: Core, reaper: Reaper, on_ready: Callable[[], None], answers: int) -> None:
        self._core = core
        self._reaper = reaper
        self._on_ready = on_ready
        self.under_way = False
        self.answers = answers

    def ask(self, books: Callable[[Ledger], None]) -> None:
        """Start a trial. What was asked while another one runs is answered by it.

        Args:
            books: writes what the next program would find.
        """
        if self.under_way:
            return
        try:
            self._start(books)
        except (OSError, MemoryError, SystemRefused) as error:
            self.refuse(f"the trial cannot be started: {as_refusal(error)}")

    def _start(self, books: Callable[[Ledger], None]) -> None:
        with ExitStack() as stack:
            ledger = Ledger.new()
            stack.callback(ledger.close)
            books(ledger)
            reader, writer = os.pipe()
            stack.callback(os.close, writer)
            with ExitStack() as undo:
                undo.callback(os.close, reader)
                os.set_blocking(reader, False)
                trial = _Trial(reader, self._core, self._reaper, self._answered)
                undo.callback(self._core.waiter.unregister, trial)
                trial.started_as(_start_trial(ledger.descriptor, writer))
                undo.pop_all()
        self.under_way = True

    def _answered(self, refusal: str | None) -> None:
        self.under_way = False
        if refusal is None:
            self._on_ready()
        else:
            self.refuse(refusal)

    def refuse(self, reason: str) -> None:
        """Say that everything stays as it is, and why."""
        self.answers += 1
        show_answers(self.answers, refused=True)
        self._core.log.emit(UpgradeFailed(reasons=tuple(reason.splitlines())))


def _start_trial(ledger: int, writer: int) -> int:
    return os.posix_spawn(
        sys.executable,
        command(),
        os.environ | {TRIAL: str(_PASSED)} | descriptor_limit.handed_on(),
        file_actions=(
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, ledger, _PASSED),
            (os.POSIX_SPAWN_DUP2, writer, 1),
            (os.POSIX_SPAWN_DUP2, writer, 2),
        ),
        setsid=True,
        setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
        setsigmask=(),
    )


class _Trial:
    """A trial that runs: what it says, and how it ends.

    Raises:
        OSError: the system is short of something.
    """

    def __init__(self, reader: int, core: Core, reaper: Reaper, on_answer: Callable[[str | None], None]) -> None:
        self._pid = 0
        self._reader = reader
        self._core = core
        self._reaper = reaper
        self._on_answer = on_answer
        self._said = b""
        self._late = False
        core.waiter.register(self)

    def started_as(self, pid: int) -> None:
        """It runs."""
        self._pid = pid
        self._reaper.expect_other(pid, self._ended)
        self._timer = self._core.timers.at(self._core.later(_TRIAL_PATIENCE), self._lose_patience)

    def fileno(self) -> int:
        """What it says comes here."""
        return self._reader

    def on_ready(self) -> None:
        """Read it; its mistakes are the reason of a refusal."""
        if self._reader < 0:
            return  # its end was told in this pass
        try:
            piece = os.read(self._reader, _LARGEST_ANSWER)
        except BlockingIOError:
            return
        except OSError:
            piece = b""  # what else it says is lost; how it ends is what counts
        self._said = (self._said + piece)[-_LARGEST_ANSWER:]
        if not piece:
            self._hear_no_more()

    def _hear_no_more(self) -> None:
        self._core.waiter.unregister(self)
        os.close(self._reader)
        self._reader = -1

    def _lose_patience(self) -> None:
        self._late = True
        os.kill(self._pid, signal.SIGKILL)  # not reaped, or the timer was cancelled: the number is still its own

    def _ended(self, status: int) -> None:
        """What it has said is in the pipe by now. The end of the pipe is not waited for: whoever the trial has left
        behind has it too, and may have it for ever.
        """
        self._timer.cancel()
        if self._reader >= 0:
            self.on_ready()
        if self._reader >= 0:
            self._hear_no_more()
        said = self._said.decode(errors="backslashreplace").strip()
        if status == 0:
            self._on_answer(None)
        elif self._late:
            self._on_answer(f"the trial did not end within {_TRIAL_PATIENCE:g} s")
        else:
            self._on_answer(said or f"the trial ended ({outcome.in_words(status)})")

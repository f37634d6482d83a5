"""Replacing the running program by the installed one: a trial first, then exec(3) in the same process.

What is kept across the exec: the process id, and so the children; every descriptor; signals that are pending; the
books. What is lost: memory.
"""

import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tcppar.errors import SystemRefused
from tcppar.events import UpgradeFailed
from tcppar.net import calls, descriptor_limit, platform
from tcppar.policy import faults, outcome
from tcppar.supervisor import heritage
from tcppar.supervisor.ledger import Ledger, new_books

if TYPE_CHECKING:
    from tcppar.config import Config
    from tcppar.supervisor.core import Core
    from tcppar.supervisor.reaper import Reaper

TRIAL = "TCPPAR_TRIAL"
"""The variable that makes a `tcppar serve` a trial: it holds the descriptor of the books, or NO_BOOKS."""
NO_BOOKS = "-"
HERITAGE = "TCPPAR_HERITAGE"
"""The variable that makes it go on from the books: their descriptor, and those that a keeper has use for."""

_TRIAL_PATIENCE = 30.0
_LARGEST_ANSWER = 65536
_PASSED = 3
_NUMBERS_LEFT = (1, 3)  # the books; with a keeper its pipe too


def command() -> list[str]:
    """The words that this process was started with."""
    return [sys.executable, *sys.orig_argv[1:]]


@dataclass(frozen=True, slots=True)
class Left:
    """Descriptors that a program has left to the one that replaces it."""

    ledger: int
    keeper: tuple[int, ...] = ()

    def __str__(self) -> str:
        return ":".join(map(str, (self.ledger, *self.keeper)))

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Left | None":
        """What HERITAGE says; None if there is no such variable.

        Raises:
            SystemRefused: it was not written by us.
        """
        if HERITAGE not in environ:
            return None
        ledger, *keeper = descriptors = [_descriptor(HERITAGE, word) for word in environ[HERITAGE].split(":")]
        if len(descriptors) not in _NUMBERS_LEFT:
            raise SystemRefused(f"the variable {HERITAGE} is tcppar's own: expected it not to be set")
        return cls(ledger, tuple(keeper))


def _descriptor(variable: str, text: str) -> int:
    """A descriptor that one of our variables names, and that is open."""
    try:
        number = int(text)
        os.fstat(number)
    except (ValueError, OverflowError, OSError):
        raise SystemRefused(f"the variable {variable} is tcppar's own: expected it not to be set") from None
    return number


def replace_program(left: Left, caught: set[signal.Signals]) -> None:
    """Go on as the installed program. Returns never, or with an exception.

    Raises:
        OSError: it cannot be run; everything is as before.
    """
    environment = os.environ | {HERITAGE: str(left)}
    # Between the end of our handlers and the start of its, they wait.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, caught)
    signal.signal(signal.SIGALRM, signal.SIG_IGN)  # what is armed goes off in the next program too
    crossing = [number for number in platform.open_descriptors() if number > 2 and not os.get_inheritable(number)]
    for number in crossing:
        os.set_inheritable(number, True)
    try:
        with descriptor_limit.as_given():
            os.execve(sys.executable, command(), environment)
    finally:
        for number in crossing:
            os.set_inheritable(number, False)
        calls.catch_alarm()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def keep_to_ourselves() -> set[int]:
    """After an exec: let no child inherit what has crossed it. All descriptors that are open."""
    found = platform.open_descriptors()
    for number in found:
        if number > 2:
            os.set_inheritable(number, False)
    return found


class Upgrade:
    """Whether the installed program can go on from here.

    Args:
        on_ready: called when it can.

    Attributes:
        under_way: whether that is being found out.
    """

    def __init__(self, core: "Core", reaper: "Reaper", on_ready: Callable[[], None]) -> None:
        self._core = core
        self._reaper = reaper
        self._on_ready = on_ready
        self.under_way = False

    def ask(self, structure: bytes) -> None:
        """Start a trial. What was asked while another one runs is answered by it."""
        if self.under_way:
            return
        try:
            self._start(structure)
        except OSError as error:
            self._fail(f"no trial can be started: {faults.name(error.errno or 0)}")

    def _start(self, structure: bytes) -> None:
        ledger = Ledger(new_books())
        try:
            ledger.save(structure)
            reader, writer = os.pipe()
            os.set_blocking(reader, False)
            try:
                pid = _start_trial(ledger.descriptor, writer)
            except OSError:
                os.close(reader)
                raise
            finally:
                os.close(writer)
        finally:
            ledger.close()
        self.under_way = True
        _Trial(pid, reader, self._core, self._reaper, self._answered)

    def _answered(self, refusal: str | None) -> None:
        self.under_way = False
        if refusal is None:
            self._on_ready()
        else:
            self._fail(refusal)

    def _fail(self, reason: str) -> None:
        self._core.log.emit(UpgradeFailed(reasons=tuple(reason.splitlines())))


def _start_trial(ledger: int, writer: int) -> int:
    with descriptor_limit.as_given():
        return os.posix_spawn(
            sys.executable,
            command(),
            os.environ | {TRIAL: str(_PASSED)},
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
    """A trial that runs: what it says, and how it ends."""

    def __init__(
        self, pid: int, reader: int, core: "Core", reaper: "Reaper", on_answer: Callable[[str | None], None]
    ) -> None:
        self._pid = pid
        self._reader = reader
        self._core = core
        self._on_answer = on_answer
        self._said = b""
        self._status: int | None = None
        self._late = False
        core.waiter.register(self)
        reaper.expect_other(pid, self._ended)
        self._timer = core.timers.at(core.later(_TRIAL_PATIENCE), self._lose_patience)

    def fileno(self) -> int:
        """What it says comes here."""
        return self._reader

    def on_ready(self) -> None:
        """Read it; its mistakes are the reason of a refusal."""
        try:
            piece = os.read(self._reader, _LARGEST_ANSWER)
        except BlockingIOError:
            return
        self._said = (self._said + piece)[-_LARGEST_ANSWER:]
        if not piece:
            self._core.waiter.unregister(self)
            os.close(self._reader)
            self._reader = -1
            self._answer_if_complete()

    def _ended(self, status: int) -> None:
        self._status = status
        self._answer_if_complete()

    def _lose_patience(self) -> None:
        if self._status is None:  # not reaped, so that the number is still its own
            self._late = True
            os.kill(self._pid, signal.SIGKILL)

    def _answer_if_complete(self) -> None:
        if self._status is None or self._reader >= 0:
            return
        self._timer.cancel()
        said = self._said.decode(errors="backslashreplace").strip()
        if self._status == 0:
            self._on_answer(None)
        elif self._late:
            self._on_answer(f"the trial has not ended after {_TRIAL_PATIENCE:g} s")
        else:
            self._on_answer(said or f"the trial has ended, {outcome.in_words(self._status)}")


def try_to_go_on(books: str, read: "Callable[[], Config]") -> None:
    """The trial. That the program could be imported is known by now; nothing is opened.

    Args:
        books: the value of TRIAL.
        read: reads the configuration.

    Raises:
        ConfigurationError: with every mistake of the configuration.
        SystemRefused: the state of the running server cannot be read.
    """
    read()
    if books != NO_BOOKS:
        heritage.left_in(Ledger(_descriptor(TRIAL, books)))

"""Starting a supervisor: the first one, the one after an upgrade, or one for a keeper whose last one died."""

import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from types import TracebackType
from typing import NoReturn, Protocol

from tcppar import needs
from tcppar.config import Config
from tcppar.errors import SystemRefused, TcpparError, as_refusal
from tcppar.keeper import REPLACE, REPLACED, Keeper, Kept
from tcppar.net import descriptor_limit, notify, opening, platform, steering
from tcppar.net.platform import Features
from tcppar.net.waiter import Waiter
from tcppar.observe.log import Log
from tcppar.policy.strikes import Strikes
from tcppar.supervisor import snapshot
from tcppar.supervisor.core import Core, EventLog
from tcppar.supervisor.loop import CAUGHT, Supervisor
from tcppar.supervisor.succession import upgrade
from tcppar.supervisor.succession.ledger import Ledger
from tcppar.supervisor.succession.place import Succession
from tcppar.supervisor.succession.rehearsal import RehearsedLedger, Silence, Stage
from tcppar.supervisor.succession.upgrade import Left

_TOLERATED_WAIT_STRIKES = 3
# How often the program that has replaced another one tries to go on from there, and when, in seconds: 0.1, 0.2 ... 3.2.
_ATTEMPTS = "TCPPAR_ATTEMPTS"
_MOST_ATTEMPTS = 6
_FIRST_PAUSE = 0.1


class Read(Protocol):
    """Reads the configuration; `again` if a server that serves does, which must not be kept waiting.

    Raises:
        ConfigurationError: with every mistake.
    """

    def __call__(self, *, again: bool = False) -> Config: ...


class Starting:
    """One start.

    Args:
        read: reads the configuration.
        keep: whether there is to be a keeper; None: if this is process 1, and the system can.
        lifeline: a descriptor at whose end the server stops.

    Attributes:
        is_first: whether no other program has served in this process before.
        ready: the descriptor that is told when the server is ready.
        failure: the descriptor that is told if it never will be.
    """

    def __init__(self, read: Read, *, keep: bool | None, lifeline: int | None) -> None:
        self._read = read
        self._keep = keep
        self._lifeline = lifeline
        self._left = Left.from_environment(os.environ)
        os.environ.pop(upgrade.HERITAGE, None)
        attempts = {str(number): number for number in range(_MOST_ATTEMPTS + 1)}
        self._attempts = attempts.get(os.environ.pop(_ATTEMPTS, ""), 0)
        self._serves = False
        self._former = ""
        self._books: Ledger | None = None
        self.is_first = self._left is None
        self.ready: int | None = None
        self.failure: int | None = None

    def run(self) -> None:
        """Serve until a stop is asked for and done.

        Raises:
            SystemRefused, ConfigurationError: it cannot start.
        """
        process = os.getpid()
        try:
            self._run()
        except (TcpparError, OSError, MemoryError) as error:
            if os.getpid() != process and self._can_be_followed:
                _say_and_exit_at_once(error)
            if os.getpid() == process and self._left is not None and not self._serves:
                self._begin_again(self._left, error)
            raise

    def _run(self) -> None:
        features = steering.where_permitted(platform.detect())
        descriptor_limit.raise_own()
        if features.refuses_tracers:
            platform.refuse_tracers()
        if self._left is not None:
            upgrade.keep_to_ourselves()
        if self._keep is None:
            self._keep = os.getpid() == 1 and features.shared_descriptors
        if self._keep:
            if not features.shared_descriptors:
                raise SystemRefused("--keep: needs Linux, where two processes can share their descriptors")
            if self.is_first:
                needs.refuse_if_short(self._read(), keep=True)  # mistakes are told before anything is started
            kept = self._keep_on()
            self._former = kept.former
            succession = self._after_keeper(kept)
        else:
            succession = self._alone()
        self._supervise(succession, features)

    @property
    def _can_be_followed(self) -> bool:
        """Whether there is something that the next supervisor of a keeper can go on from."""
        return bool(self._former) or (self._books is not None and self._books.structure() is not None)

    def _begin_again(self, left: Left, error: TcpparError | OSError | MemoryError) -> None:
        """After an exec nobody else can go on. What the system is short of it may have a moment later, and nothing is
        lost until then: all that there is crosses another exec, and clients wait in the queue.
        """
        if self._attempts == _MOST_ATTEMPTS:
            return
        sys.stderr.write(f"tcppar: cannot take the server over yet, trying again: {as_refusal(error)}\n")
        sys.stderr.flush()
        time.sleep(_FIRST_PAUSE * 2**self._attempts)
        os.environ[_ATTEMPTS] = str(self._attempts + 1)
        try:
            upgrade.replace_program(left, set(CAUGHT))
        except OSError:
            pass  # it is the first error that counts

    def _keep_on(self) -> Kept:
        """Be the keeper; this returns in supervisors alone."""
        upgrade.show_answers(0 if self._left is None else self._left.answers, refused=False)
        keeper = Keeper(self._left)
        self._serves = True  # from here on it sees to its supervisors, and may be asked to stop
        kept = keeper.run()
        sys.excepthook = _show_and_exit_at_once
        opening.take_over_from(kept.keeper)
        if kept.former:
            self.ready = self.failure = None
        return kept

    def _alone(self) -> Succession:
        found = platform.open_descriptors()
        books = None if self._left is None else Ledger(self._left.ledger)
        return Succession(
            found=found,
            kept=self._ours() | (set() if books is None else {books.descriptor}),
            replace=_replace_alone,
            replace_alone=_replace_alone,
            answers=0 if self._left is None else self._left.answers,
            books=books,
            left=None if books is None else snapshot.decoded(books.structure()),
            upgraded=books is not None,
        )

    def _after_keeper(self, kept: Kept) -> Succession:
        books = Ledger(kept.ledger)
        self._books = books
        return Succession(
            found=kept.found,
            kept=self._ours() | {kept.ledger, *kept.news},
            replace=_let_keeper_replace,
            replace_alone=_replace_alone,
            books=books,
            left=snapshot.decoded(books.structure()),
            former=kept.former,
            upgraded=kept.former == REPLACED,
            keeper=kept.keeper,
            news=kept.news[0],
        )

    def _ours(self) -> set[int]:
        given = {number for number in (self._lifeline, self.ready, self.failure) if number is not None}
        return {0, 1, 2} | given

    def _supervise(self, succession: Succession, features: Features) -> None:
        left = succession.left
        # What is in the file now counts after an upgrade; after a crash, what was in force.
        config = left.config if left is not None and not succession.upgraded else self._read(again=left is not None)
        if left is None and not self._keep:
            needs.refuse_if_short(config, keep=False)
        log = Log(2, config.server.log_format)
        if features.subreaper:
            platform.become_subreaper()

        def announce(addresses: Sequence[str]) -> None:
            log.flush()
            self._serves = True
            notify.notify_manager("READY=1")
            if self.ready is not None:
                notify.write_ready_line(self.ready, addresses)

        Supervisor(
            config,
            self._core(succession, features, log),
            reread=partial(self._read, again=True),
            announce=announce,
            succession=succession,
            lifeline=self._lifeline,
        ).run()

    def _core(self, succession: Succession, features: Features, log: EventLog) -> Core:
        left = succession.left
        waiter = Waiter(use_epoll=features.epoll, strikes=Strikes(_TOLERATED_WAIT_STRIKES))
        prefix = os.urandom(4).hex() if left is None else left.id_prefix
        core = Core(waiter=waiter, log=log, features=features, id_prefix=prefix)
        if self._keep and succession.books is not None:
            core.books = succession.books
        return core

    def rehearse(self, books: int) -> None:
        """In a trial: find out whether this program can go on in the place of a running server's.

        Args:
            books: the descriptor of a copy of the server's.

        Raises:
            ConfigurationError: with every mistake of the configuration.
            SystemRefused: the state of the server cannot be read.
        """
        config = self._read(again=True)
        stage = Stage()
        ledger = RehearsedLedger(books, stage)
        if (left := snapshot.decoded(ledger.structure())) is None:
            return
        left = stage.snapshot(left)
        succession = Succession(
            found=stage.descriptors,
            kept=set(),
            replace=_replace_alone,
            replace_alone=_replace_alone,
            books=ledger,
            left=left,
            upgraded=True,
        )
        core = self._core(succession, platform.detect(), Silence())
        core.books = ledger
        Supervisor(config, core, reread=self._read, announce=print, succession=succession).rehearse()


def _replace_alone(ledger: Ledger, answers: int) -> None:
    upgrade.replace_program(Left(ledger.descriptor, (), answers), set(CAUGHT))


def _let_keeper_replace(ledger: Ledger, answers: int) -> None:
    upgrade.ensure_room()
    _exit_at_once(REPLACE)


def _exit_at_once(code: int) -> NoReturn:
    """End a supervisor that has a keeper, and is not done. An interpreter that ends in order closes what its objects
    have open, and the table of descriptors is the keeper's too.
    """
    sys.stderr.flush()
    os._exit(code)


def _say_and_exit_at_once(error: TcpparError | OSError | MemoryError) -> NoReturn:
    """What is refused to such a supervisor, or to the next one."""
    told = as_refusal(error)
    sys.stderr.write(f"tcppar: {told}\n")
    _exit_at_once(told.exit_code)


def _show_and_exit_at_once(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What a mistake of ours does to it (sys.excepthook)."""
    sys.__excepthook__(kind, error, trace)
    _exit_at_once(1)

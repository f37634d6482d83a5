"""The supervisors of the simulated system, one after the other, and the keeper that starts them."""

import os
from collections import deque
from collections.abc import Callable
from signal import Signals

from tcppar.config import Config
from tcppar.events import Event
from tcppar.net.platform import Features
from tcppar.policy.timers import NEVER
from tcppar.supervisor import snapshot
from tcppar.supervisor.core import Core
from tcppar.supervisor.dispatch.reaper import EXIT_NEWS
from tcppar.supervisor.loop import Supervisor
from tcppar.supervisor.succession.ledger import Ledger
from tcppar.supervisor.succession.place import Succession
from tests.simulation.books import SimulatedLedger, SimulatedLog
from tests.simulation.channel import Pipe
from tests.simulation.kernel import Kernel, Killed, OpenFile, Process
from tests.simulation.waiter import SimulatedWaiter

_PREFIX = "simulated"
_OUR_DESCRIPTORS = {0, 1, 2}
# As the keeper's: the next supervisor comes after this, if the one before did not come to serve.
_NEXT_AFTER = 0.05


class _Replaced(BaseException):
    """The supervisor has let itself be replaced."""

    def __init__(self, books: Ledger | None) -> None:
        self.books = books


class SteppedSupervisor(Supervisor):
    """One whose `run` can be called again, to go on."""

    has_begun = False

    def _begin(self) -> None:
        if not self.has_begun:
            self.has_begun = True
            super()._begin()


class SupervisorProcess(Process):
    """A process that is the supervisor, or one after the other.

    Attributes:
        supervisor: what the program has made of itself.
        in_doubt: what it had written when it was killed, and had not noted to be written.
    """

    def __init__(
        self,
        kernel: Kernel,
        parent: Process | None,
        table: dict[int, OpenFile] | None,
        make: "Callable[[SupervisorProcess, Ledger | None], SteppedSupervisor]",
    ) -> None:
        super().__init__(kernel, parent, table=table, subreaper=True)
        self._make = make
        self.waiter = SimulatedWaiter(kernel, self)
        self.supervisor: SteppedSupervisor | None = None
        self.replaced = False
        self.in_doubt: list[Event] = []
        self._exec(None)

    def _exec(self, books: Ledger | None) -> None:
        """The program begins."""
        self.waiter = SimulatedWaiter(self.kernel, self)
        self.caught.clear()
        try:
            with self.kernel.run(self):
                self.supervisor = self._make(self, books)
        except Killed:
            pass

    @property
    def wakes_at(self) -> float:
        return self.waiter.deadline if self.lives else NEVER

    def step(self) -> bool:
        if not self.lives or not self.waiter.would_return:
            return False
        assert self.supervisor is not None
        try:
            if self.waiter.step(self.supervisor.run):
                self.kernel.exit(self, 0)
        except Killed:
            log = self.supervisor.core.log
            assert isinstance(log, SimulatedLog)
            self.in_doubt = log.in_doubt
        except _Replaced as replaced:
            if replaced.books is None:
                self.replaced = True
                self.kernel.exit(self, 64 << 8)
            else:
                self._exec(replaced.books)
        return True

    def obey(self, number: int) -> None:
        """What comes before it is caught waits: it is blocked until then."""
        self.signals.add(number)


class Keeper(Process):
    """As `tcppar.keeper.Keeper`."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel, None, subreaper=True)
        self.caught.add(Signals.SIGCHLD)
        self.news = Pipe()
        self.news_ends = kernel.open(self.news, self.table), kernel.open(self.news.writer, self.table)
        self.supervisor: SupervisorProcess | None = None
        self.former = ""
        self.over = False
        self._stops: list[int] = []
        self._blocked: deque[int] = deque()
        self._next_at = 0.0

    def watch(self, supervisor: SupervisorProcess) -> None:
        """This is the supervisor now."""
        self.supervisor = supervisor
        for number in (*self._stops, *self._blocked):
            self.kernel.signal(supervisor, number)
        self._blocked.clear()

    @property
    def wants_another(self) -> bool:
        """Whether a supervisor is to be started now."""
        return self.supervisor is None and not self.over and self.kernel.now >= self._next_at

    @property
    def wakes_at(self) -> float:
        return self._next_at if self.supervisor is None and not self.over else NEVER

    def pass_on(self, number: int) -> None:
        """A signal has come that is meant for the supervisor."""
        if number in (Signals.SIGTERM, Signals.SIGINT):
            self._stops.append(number)
        if self.supervisor is None:
            self._blocked.append(number)
        else:
            self.kernel.signal(self.supervisor, number)

    def step(self) -> bool:
        if not self.signals:
            return False
        self.signals.clear()
        with self.kernel.run(self):
            while self.kernel.children_of(self) and (ended := self.kernel.reap()) is not None:
                if ended is self.supervisor:
                    self._lost(self.supervisor)
                else:
                    self.news.written += EXIT_NEWS.pack(ended.pid, ended.status or 0, 0.0)
        return True

    def _lost(self, supervisor: SupervisorProcess) -> None:
        self.supervisor = None
        self.over = supervisor.status == 0
        self.former = "replaced" if supervisor.replaced else "signal SIGKILL"
        self._next_at = self.kernel.now + (0.0 if supervisor.replaced else _NEXT_AFTER)


class Life:
    """Whoever is the supervisor, and how the next one comes to be it.

    Args:
        keep: whether there is a keeper, so that it can be killed.

    Attributes:
        config: what is in the configuration's file.
        written: the log.
    """

    def __init__(self, kernel: Kernel, features: Features, config: Config, *, keep: bool) -> None:
        self._kernel = kernel
        self._features = features
        self.config = config
        self.written: list[Event] = []
        self.in_doubt: list[Event] = []
        self._ledgers: list[Ledger] = []
        self._ledger = SimulatedLedger.made_in(kernel) if keep else None
        self.keeper = Keeper(kernel) if keep else None
        table = None if self.keeper is None else self.keeper.table
        self.process = SupervisorProcess(kernel, self.keeper, table, self._make)
        if self.keeper is not None:
            self.keeper.watch(self.process)

    def close(self) -> None:
        """Let go of the real memory."""
        for ledger in filter(None, (self._ledger, *self._ledgers)):
            try:
                ledger.close()
            except OSError:
                pass

    @property
    def supervisor(self) -> SteppedSupervisor:
        """The one that serves, or has served last."""
        assert self.process.supervisor is not None
        return self.process.supervisor

    def signal(self, number: int) -> None:
        """Ask the server for something."""
        if self.keeper is not None:
            self.keeper.pass_on(number)
        else:
            self._kernel.signal(self.process, number)

    def kill_keeper(self) -> None:
        """The keeper is killed, of which its child is told."""
        assert self.keeper is not None
        self._kernel.exit(self.keeper, Signals.SIGKILL)
        self.keeper = None
        self._kernel.signal(self.process, Signals.SIGCHLD)

    def start_next(self) -> bool:
        """Let the keeper start the next supervisor, if it is to."""
        keeper = self.keeper
        if keeper is None or not keeper.wants_another:
            return False
        self.in_doubt += self.process.in_doubt
        self.process = SupervisorProcess(self._kernel, keeper, keeper.table, self._make)
        keeper.watch(self.process)
        return True

    def _make(self, process: SupervisorProcess, handed_on: Ledger | None) -> SteppedSupervisor:
        """As `tcppar.starting.Starting`."""
        succession = self._alone(process, handed_on) if self.keeper is None else self._after(self.keeper, process)
        left = succession.left
        log = SimulatedLog(self._kernel, self.written)
        core = Core(
            waiter=process.waiter,  # type: ignore[arg-type]
            log=log,
            features=self._features,
            id_prefix=_PREFIX if left is None else left.id_prefix,
            now=self._kernel.now,
        )
        if self.keeper is not None and succession.books is not None:
            core.books = succession.books
        if isinstance(core.books, SimulatedLedger):
            core.books.log = log
        config = self.config if left is None or succession.upgraded else left.config
        return SteppedSupervisor(
            config, core, reread=lambda: self.config, announce=lambda addresses: None, succession=succession
        )

    def _alone(self, process: SupervisorProcess, handed_on: Ledger | None) -> Succession:
        books = None if handed_on is None else SimulatedLedger(self._kernel, os.dup(handed_on.descriptor))
        if handed_on is not None:
            handed_on.close()
        return Succession(
            found=set(process.table) | _OUR_DESCRIPTORS,
            kept=_OUR_DESCRIPTORS,
            replace=_replace_alone,
            replace_alone=_replace_alone,
            books=books,
            left=None if books is None else snapshot.decoded(books.structure()),
            upgraded=books is not None,
        )

    def _after(self, keeper: Keeper, process: SupervisorProcess) -> Succession:
        assert self._ledger is not None
        books = self._ledger.of_next(self._kernel)
        self._ledgers.append(books)
        return Succession(
            found=set(process.table) | _OUR_DESCRIPTORS,
            kept=_OUR_DESCRIPTORS | set(keeper.news_ends),
            replace=_replace_by_keeper,
            replace_alone=_replace_alone,
            books=books,
            left=snapshot.decoded(books.structure()),
            former=keeper.former,
            upgraded=keeper.former == "replaced",
            keeper=keeper.pid,
            news=keeper.news_ends[0],
        )


def _replace_alone(books: Ledger, answers: int) -> None:
    raise _Replaced(books)


def _replace_by_keeper(books: Ledger, answers: int) -> None:
    raise _Replaced(None)

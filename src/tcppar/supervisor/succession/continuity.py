"""A supervisor's place in the line: going on after the one before, keeping the books, making room for the next."""

import os
from collections.abc import Callable

import tcppar
from tcppar.config import Config
from tcppar.errors import SystemRefused, as_refusal
from tcppar.events import KeeperLost, Recovered, Upgraded
from tcppar.net import platform
from tcppar.supervisor.changes.agenda import Agenda, Change
from tcppar.supervisor.changes.rollout import Renewal
from tcppar.supervisor.running import Phase, Running
from tcppar.supervisor.snapshot import Snapshot
from tcppar.supervisor.succession import handing_on, upgrade
from tcppar.supervisor.succession.handing_on import describe
from tcppar.supervisor.succession.ledger import Ledger
from tcppar.supervisor.succession.place import Succession
from tcppar.supervisor.succession.takeover import Takeover
from tcppar.supervisor.succession.upgrade import Upgrade

# How long a slow reader of the log may hold up an upgrade, during which nobody is served.
_LAST_MOMENT = 0.1
# When the books could not be kept, the loop comes round again this soon.
_BOOKS_PAUSE = 0.05


class Continuity:
    """Of one supervisor.

    Attributes:
        ledger: the books that are kept, if any are.
        keeper: the keeper's process id, as long as it lives.
        replacement_is_due: whether the installed program is to go on from here, as soon as nothing is under way.
    """

    def __init__(self, running: Running, agenda: Agenda, succession: Succession) -> None:
        self._running = running
        self._agenda = agenda
        self._core = core = running.core
        self._succession = succession
        self.ledger: Ledger | None = core.books if isinstance(core.books, Ledger) else None
        self.keeper = succession.keeper
        self._upgrade = Upgrade(core, running.reaper, self._replacement_is_ready, succession.answers)
        self.replacement_is_due = False

    # The keeper.

    def hear_of_keeper(self) -> None:
        """Be told of the ends that it sees, and of its own."""
        if self.keeper is not None and self._succession.news is not None:
            self._running.reaper.hear_of(self._succession.news, self.keeper)
            platform.hear_of_parents_end()

    def look_for_keeper(self) -> None:
        """Go on alone if it is dead, which comes as SIGCHLD. What is open is ours as well, and stays so."""
        if self.keeper is not None and os.getppid() != self.keeper:
            self._running.reaper.hear_no_more(self.keeper)
            self.keeper = None
            self._core.log.emit(KeeperLost(pid=os.getpid()))

    # The one before.

    def take_over(
        self, left: Snapshot, *, first: Config, roll_out: Callable[[Config, Renewal], None], stop: Callable[[str], None]
    ) -> None:
        """Go on in the place of another.

        Args:
            first: the configuration as it is in the file.
        """
        succession, core, running = self._succession, self._core, self._running
        self._rebuild(left)
        if self.ledger is None and succession.books is not None:
            succession.books.close()
        running.phase = Phase.SERVING
        connections = len(running.table)
        if succession.upgraded:
            core.log.emit(Upgraded(version=tcppar.__version__, former_version=left.written_by, connections=connections))
        else:
            core.log.emit(Recovered(outcome=succession.former, pid=os.getpid(), connections=connections))
        if left.stopping:
            stop("continuing a stop")
        elif succession.upgraded:
            roll_out(first, Renewal.EVERYTHING)
        else:
            roll_out(left.config, Renewal.NOTHING)
        if self.ledger is not None:
            self.ledger.note_begun()

    def _rebuild(self, left: Snapshot) -> None:
        running, books = self._running, self._succession.books
        assert books is not None
        takeover = Takeover(self._succession, left, books, running.parts, running.reaper, running.enforcer)
        takeover.rebuild()
        running.services, running.leaving = takeover.serving, takeover.leaving

    def rehearse(self, left: Snapshot) -> None:
        """In a trial: go on from the copy of another's books, as far as that can be done without serving."""
        self._rebuild(left)
        self._description()

    def begun(self) -> None:
        """The supervisor has begun."""
        if self.ledger is not None:
            self.ledger.hold_reserve()
        upgrade.show_answers(self._succession.answers, refused=False)

    # The books.

    def keep_books(self) -> None:
        """Note for a next supervisor what this pass has changed. What was said stays to be read until that is done."""
        ledger, running = self.ledger, self._running
        if ledger is None:
            return
        # A start that was refused leaves nothing to go on from: there, too, its end is the keeper's.
        if ledger.stale and running.phase is not Phase.STARTING and running.refused is None:
            try:
                self._save(ledger)
            except OSError as error:
                self._core.fault(("books",), "keep the books", error.errno or 0, "tried again until it succeeds")
                self._core.timers.at(self._core.later(_BOOKS_PAUSE), lambda: None)
                return
        self._core.settle()

    def _save(self, ledger: Ledger) -> None:
        handing_on.write_structure(ledger, self._description(), self._running.all_services)

    def _description(self) -> bytes:
        running = self._running
        return describe(
            running.parts,
            running.reaper,
            running.config,
            running.services.values(),
            running.leaving,
            stopping=running.phase is not Phase.SERVING,
            strangers=self._succession.strangers,
        )

    # The next one.

    def ask_for_upgrade(self) -> None:
        """Find out whether the installed program can go on from here; then it does."""
        if self._running.is_stopping:
            self._upgrade.refuse("the server is stopping")
        elif self._agenda.is_busy:
            self._agenda.put_off(Change.UPGRADE, self.ask_for_upgrade)
        else:
            self._upgrade.ask(self._write_sample)

    def _write_sample(self, ledger: Ledger) -> None:
        handing_on.write_sample(ledger, self._running.table)
        self._save(ledger)

    def _replacement_is_ready(self) -> None:
        self.replacement_is_due = True

    def replace_if_possible(self) -> None:
        """Let the installed program go on from here."""
        if self._running.phase is not Phase.SERVING:
            self.replacement_is_due = False
            self._upgrade.refuse("the server is stopping")
        elif not self._agenda.is_busy and all(one.can_be_handed_on for one in self._running.reaper.spawners):
            self.replacement_is_due = False
            self._replace()

    def _replace(self) -> None:
        core, succession = self._core, self._succession
        replace = succession.replace_alone if self.keeper is None else succession.replace
        ledger = self.ledger
        try:
            ledger = ledger or Ledger.new()
            if self.ledger is None:
                handing_on.write_connections(ledger, core, self._running.table)
            self._save(ledger)
            core.log.finish(_LAST_MOMENT)
            core.settle()
            replace(ledger, self._upgrade.answers + 1)
        except (OSError, MemoryError, SystemRefused) as error:
            self._upgrade.refuse(str(as_refusal(error)))
            if self.ledger is None and ledger is not None:
                ledger.close()

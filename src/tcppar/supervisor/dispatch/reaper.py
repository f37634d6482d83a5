"""Every process that ends as our child: spawners, orphans of spawners that died, and strangers (we may be pid 1)."""

import os
import struct
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Protocol

from tcppar.child import control_file
from tcppar.mark import mark_of
from tcppar.net import processes, tcp_info
from tcppar.policy import outcome
from tcppar.policy.life import State
from tcppar.records import ChildPlan, Ended, Report, Taken
from tcppar.supervisor.connection import Connection
from tcppar.supervisor.connections.table import Table
from tcppar.supervisor.core import Core
from tcppar.supervisor.dispatch import control_folder
from tcppar.supervisor.dispatch.spawner_process import SpawnerProcess
from tcppar.supervisor.dispatch.taker import Taker
from tcppar.supervisor.snapshot import PoolRecord

# Where orphans do not become our children, nobody tells of their end: they are looked at this often.
_ORPHAN_PERIOD = 1.0

EXIT_NEWS = struct.Struct("<iid")
"""Process, status as waitpid(2) gives it, seconds of processor time: what one process tells another of an end."""
_MOST_NEWS = 1024
_MOST_AT_ONCE = 4096
_REMEMBERED = 1024


class Crew(Protocol):
    """Whoever has to know of a spawner's end."""

    plan: ChildPlan

    @property
    def takers(self) -> Sequence[Taker]: ...
    def describe(self, *, in_force: bool) -> PoolRecord: ...
    def on_report(self, spawner: SpawnerProcess, report: Report) -> None: ...
    def on_exit(self, spawner: SpawnerProcess, outcome: str) -> None: ...
    def on_stopped(self, spawner: SpawnerProcess) -> None: ...
    def kill(self) -> None: ...


class Reaper:
    """Waits for ended processes, without ever blocking."""

    def __init__(self, core: Core, table: Table) -> None:
        self._core = core
        self._table = table
        self._control_files: dict[int, str] = {}
        self._spawners: dict[int, tuple[Crew, SpawnerProcess]] = {}
        self._others: dict[int, Callable[[int], None]] = {}
        self._orphans: dict[int, Connection] = {}
        # How those have ended whom nobody knew: an orphan can be reaped before the spawner that has left it.
        self._unknown: OrderedDict[int, Ended] = OrderedDict()
        self._looks_for_spawners = False

    def expect_other(self, pid: int, on_exit: Callable[[int], None]) -> None:
        """Another child of ours: `on_exit` gets its status, as waitpid(2) gives it."""
        self._others[pid] = on_exit

    @property
    def control_files(self) -> dict[int, str]:
        """Those of orphans, by the number of their connection."""
        return self._control_files

    @property
    def crews(self) -> list[Crew]:
        """All with a spawner that lives, each once."""
        return list({id(crew): crew for crew, _ in self._spawners.values()}.values())

    def hear_of(self, news: int, parent: int) -> None:
        """Somebody else is told of ends that are ours to know, and passes them on.

        Args:
            news: the descriptor of a pipe that brings them (`EXIT_NEWS`).
            parent: the process that orphans come to.
        """
        self._core.adoptive_parents.add(parent)
        _News(news, self._core, self.note_end)

    def hear_no_more(self, parent: int) -> None:
        """Whoever passed ends on is dead. Orphans come to us now; of those that had come to it, nobody tells."""
        self._core.adoptive_parents.discard(parent)
        self._look_for_spawners()

    def expect(self, crew: Crew, spawner: SpawnerProcess) -> None:
        """This spawner is a child of ours."""
        self._spawners[spawner.pid] = (crew, spawner)

    @property
    def spawners(self) -> list[SpawnerProcess]:
        """All spawners that live."""
        return [spawner for _, spawner in self._spawners.values()]

    def reap(self) -> None:
        """Take all that have ended. After SIGCHLD, of which several may have come as one."""
        for _ in range(_MOST_AT_ONCE):
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if not os.WIFSTOPPED(status):
                self.note_end(pid, status, usage.ru_utime + usage.ru_stime)
            elif (entry := self._spawners.get(pid)) is not None:
                entry[0].on_stopped(entry[1])
        # Orphans can be stopped and continued faster than that is taken note of: others are to be served too.
        self._core.timers.at(self._core.now, self.reap)

    def note_end(self, pid: int, status: int | None, cpu_seconds: float) -> None:
        """A process has ended and is reaped. Its status is None where nobody knows it."""
        if (entry := self._spawners.pop(pid, None)) is not None:
            self._spawner_ended(*entry, status)
        elif (connection := self._orphans.get(pid)) is not None:
            self._orphan_ended(connection, Ended(0, status, cpu_seconds, None))
        elif (on_exit := self._others.pop(pid, None)) is not None:
            if status is not None:
                on_exit(status)
        else:
            self._unknown[pid] = Ended(0, status, cpu_seconds, None)
            if len(self._unknown) > _REMEMBERED:
                self._unknown.popitem(last=False)

    def find_the_lost(self) -> None:
        """After taking over: spawners that died when nobody was there to note it."""
        for pid in [pid for pid in self._spawners if not _lives(pid)]:
            self.note_end(pid, None, 0.0)
        self._look_for_spawners()

    def _look_for_spawners(self) -> None:
        """Those of a supervisor before us can be children of nobody who tells us of their end: of a keeper's parent,
        when that one was killed too. They are looked at from time to time."""
        if not self._looks_for_spawners and not all(map(self._is_told_of, self._spawners)):
            self._looks_for_spawners = True
            self._core.timers.at(self._core.later(_ORPHAN_PERIOD), self._look_again)

    def _is_told_of(self, pid: int) -> bool:
        process = processes.look(pid)
        return process is not None and process.parent in self._core.adoptive_parents

    def _look_again(self) -> None:
        self._looks_for_spawners = False
        self.find_the_lost()

    def _spawner_ended(self, crew: Crew, spawner: SpawnerProcess, status: int | None) -> None:
        spawner.is_reaped = True
        spawner.read_to_the_end()
        if self._core.features.subreaper:
            self._find_unreported(crew, spawner)
        crew.on_exit(spawner, "nobody knows how" if status is None else outcome.in_words(status))
        children, spawner.children = list(spawner.children.values()), {}
        for connection in children:
            self._table.orphaned(connection)
            if path := control_file.path_of(crew.plan.control_directory, self._table.id_of(connection)):
                self._control_files[connection.number] = path
            self.look_after(connection)

    def _find_unreported(self, crew: Crew, spawner: SpawnerProcess) -> None:
        """It may have made a child and died before it said so: offered again, that connection would get two."""
        for connection in list(spawner.offered.values()):
            if (pid := self.child_of(connection)) is not None:
                crew.on_report(spawner, Taken(connection.number, pid, 0.0))

    # Whose processes are whose.

    @property
    def adoptive_parents(self) -> set[int]:
        """Whose children orphans become."""
        return self._core.adoptive_parents

    def own_processes(self) -> set[int]:
        """Children of ours, or of the keeper's, that belong to no connection."""
        return {*self._core.adoptive_parents, *self._spawners, *self._others}

    def makers(self) -> set[int]:
        """The spawners, whose children processes of connections can be (clone(2), CLONE_PARENT)."""
        return {*self._spawners}

    def are_known(self, pids: Collection[int]) -> set[int]:
        """Those of some children of spawners that have a connection, or are workers."""
        workers = {taker.pid for crew in self.crews for taker in crew.takers}
        return {pid for pid in pids if pid in workers or self._table.is_open(pid)}

    @property
    def orphans(self) -> dict[int, Connection]:
        """Processes that have a connection and whose spawner is dead."""
        return self._orphans

    @staticmethod
    def user_of(connection: Connection) -> int:
        """The user that a connection's processes were made as."""
        identity = connection.service.config.identity
        return os.getuid() if identity is None else identity.uid

    def may_be_of(self, connection: Connection, pid: int) -> bool:
        """Whether the user of a connection's service could have signalled a process: none of another user's is ever
        taken for one of the connection's, whatever is said of it or was given to it.
        """
        user = self.user_of(connection)
        return user == os.getuid() or user in processes.users_of(pid)

    def give_up_holder(self, connection: Connection, reason: str) -> None:
        """Nobody tells of the end of a connection's process: end the spawner that should."""
        maker = 0 if connection.holder is None else connection.holder.maker_pid
        if (entry := self._spawners.get(maker)) is not None:
            entry[1].give_up(reason)

    def _own_children(self) -> list[int]:
        """Processes that can be orphans of our spawners, those included that have ended and wait to be reaped."""
        known = {*self.own_processes(), *self._orphans}
        found = processes.children_of(self._core.adoptive_parents)
        return [process.pid for process in found if process.pid not in known]

    def child_of(self, connection: Connection) -> int | None:
        """The process that serves a connection, though nobody has told of it; None if there is none.

        It is known by the connection's mark, which it keeps when it has ended, until it is reaped; or by the connection
        itself, of which we have a copy. When a spawner is reaped, none of those that it left is: the kernel puts them
        behind it among our children, and wait4 takes the first that has ended.
        """
        mark, inode = mark_of(self._core.id_prefix, connection.number), _inode(connection)
        return next(
            (
                pid
                for pid in self._own_children()
                if (processes.mark_of(pid) == mark or processes.has_socket(pid, inode))
                and self.may_be_of(connection, pid)
            ),
            None,
        )

    def was_served(self, connection: Connection) -> bool:
        """Whether a connection that nobody is found to have bears the traces of a conversation: then it was served by a
        process that had ended, and was waited for, before it was told of. It must not be served again.
        """
        kept = connection.descriptor
        return kept is not None and tcp_info.was_used(kept, tcp_info=self._core.features.tcp_info)

    @staticmethod
    def has_open(pid: int, connection: Connection) -> bool:
        """Whether a process has a connection, of which we have a copy; False if that may not be seen."""
        return processes.has_socket(pid, _inode(connection))

    def _orphan_ended(self, connection: Connection, ended: Ended) -> None:
        # It may be that its spawner is dead and not reaped yet, or that it is a worker that has told of the end: then
        # the holder still has the connection, and that is to be read first.
        if (holder := connection.holder) is not None:
            holder.read_to_the_end()
            if self._table.get(connection.number) is not connection:
                return
            holder.children.pop(connection.number, None)
        if self._orphans.get(connection.pid) is connection:
            del self._orphans[connection.pid]
        if (path := self._control_files.pop(connection.number, None)) is not None:
            control_folder.remove_file(path)
        connection.service.end(connection, ended)

    def look_after(self, connection: Connection) -> None:
        """An orphan that is now our child is waited for; any other is asked for from time to time."""
        if self._is_anothers(connection):
            self._orphan_ended(connection, Ended(0, None, 0.0, None))
            return
        self._orphans[connection.pid] = connection
        try:
            os.waitid(os.P_PID, connection.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            if (ended := self._unknown.pop(connection.pid, None)) is not None:
                self._orphan_ended(connection, ended)
                return
            self._ask_for(connection)
        if connection.ended_by is not None and connection.state is State.TAKEN:
            connection.service.end_by(connection, connection.ended_by)

    def _is_anothers(self, connection: Connection) -> bool:
        """Whether the process that a connection is said to have is known to be another one's, and another user's: then
        its spawner, or its worker, has lied. Whose end it is would be told of the wrong one.
        """
        known = self._orphans.get(connection.pid, connection)
        return known is not connection and not self.may_be_of(connection, connection.pid)

    def _ask_for(self, connection: Connection) -> None:
        if self._table.get(connection.number) is not connection:
            return
        try:
            os.kill(connection.pid, 0)
        except ProcessLookupError:
            self._orphan_ended(connection, Ended(0, None, 0.0, None))
            return
        except PermissionError:
            pass  # it lives, as somebody else
        self._core.timers.at(self._core.later(_ORPHAN_PERIOD), partial(self._ask_for, connection))


class _News:
    """Ends of processes that somebody else has reaped."""

    def __init__(self, descriptor: int, core: Core, on_end: Callable[[int, int | None, float], None]) -> None:
        self._descriptor = descriptor
        self._core = core
        self._on_end = on_end
        core.waiter.register(self)

    def fileno(self) -> int:
        """The pipe."""
        return self._descriptor

    def on_ready(self) -> None:
        """Read what has come: whole records, for a pipe does not part what is so small (pipe(7))."""
        try:
            news = os.read(self._descriptor, EXIT_NEWS.size * _MOST_NEWS)
        except OSError:
            return  # nothing there, or no memory for it: it stays there
        if not news:
            self._core.waiter.unregister(self)
        for pid, status, cpu_seconds in EXIT_NEWS.iter_unpack(news):
            self._on_end(pid, status, cpu_seconds)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # as somebody else
    return True


def _inode(connection: Connection) -> int | None:
    return None if connection.descriptor is None else os.fstat(connection.descriptor).st_ino

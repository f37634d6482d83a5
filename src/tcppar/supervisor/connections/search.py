"""All processes of the system at about one moment, and which of them belong to a connection or have one open."""

from collections.abc import Collection, Generator, Iterator, Mapping
from typing import Protocol

from tcppar.net import processes
from tcppar.net.diagnostics import inode_of_connection
from tcppar.net.processes import Process
from tcppar.supervisor.connection import Connection
from tcppar.supervisor.connections.open_sockets import OpenSockets, Sight

_MARKS_AT_ONCE = 100


class Family(Protocol):
    """Who knows which processes are whose."""

    def own_processes(self) -> set[int]: ...
    def makers(self) -> set[int]: ...
    def are_known(self, pids: Collection[int]) -> set[int]: ...
    @property
    def adoptive_parents(self) -> set[int]: ...
    @property
    def orphans(self) -> dict[int, Connection]: ...
    def user_of(self, connection: Connection) -> int: ...
    def may_be_of(self, connection: Connection, pid: int) -> bool: ...
    def give_up_holder(self, connection: Connection, reason: str) -> None: ...


class Search:
    """All processes at about one moment.

    Args:
        seen: those that live, by number.
        marks: the connections whose processes are looked for, by their marks.
        lingering: the leaders of the processes that may have a connection open, by its inode.
        makers: the spawners that there were before anybody was looked at.
    """

    def __init__(
        self,
        seen: dict[int, Process],
        family: Family,
        marks: Mapping[int, Connection],
        lingering: Mapping[int, int],
        makers: Collection[int],
    ) -> None:
        self._seen = seen
        self._family = family
        self._marks = marks
        self._lingering = lingering
        self._own = family.own_processes()
        self._children: dict[int, list[Process]] = {}
        self._sessions: dict[int, list[Process]] = {}
        for process in seen.values():
            self._children.setdefault(process.parent, []).append(process)
            self._sessions.setdefault(process.session, []).append(process)
        self._orphans = self._children_of(family.adoptive_parents, self._own)
        # Whoever is made with its maker's parent (clone(2), CLONE_PARENT) is a child of a spawner, as its maker is.
        made = [process.pid for maker in makers for process in self._children.get(maker, ())]
        self._siblings = self._children_of(makers, family.are_known(made))
        self._marked: dict[int, Connection] = {}
        self._sight = Sight()

    def _children_of(self, parents: Collection[int], known: Collection[int]) -> list[Process]:
        """Those of some parents that are not known."""
        children = [process for parent in parents for process in self._children.get(parent, ())]
        return [process for process in children if process.pid not in known]

    def look_closer(self, sockets: OpenSockets) -> Generator[None, None, None]:
        """Find out what processes have of connections; it pauses at each yield.

        Whoever has changed its mark can only be found by what it has open. There can be thousands, with thousands of
        descriptors each, and other connections are not to be ended later for that: so each search looks at some.
        """
        candidates = {process for leader in self._lingering.values() for process in self._sessions.get(leader, ())}
        for count, orphan in enumerate((*self._orphans, *self._siblings), 1):
            mark = processes.mark_of(orphan.pid)
            if mark is not None and mark in self._marks:
                self._marked[orphan.pid] = self._marks[mark]
            if self._lingering or orphan.pid not in self._marked:
                candidates.add(orphan)
            if count % _MARKS_AT_ONCE == 0:
                yield
        wanted = {inode for each in self._marks.values() if (inode := _inode_of(each)) is not None} | {*self._lingering}
        self._sight = yield from sockets.look(candidates, frozenset(wanted))

    @property
    def unfinished(self) -> set[int]:
        """Processes that may have a connection open: they have more open than there was time for."""
        return self._sight.unfinished

    def members(self, connection: Connection, leader: Process | None, known: Collection[Process]) -> list[Process]:
        """The processes that belong to a connection.

        Args:
            leader: the one that has it; None while nothing proves which one that is.
            known: those that were found to belong to it before.
        """
        found: dict[int, Process] = {}
        waiting = list(self._roots(connection, leader, known))
        while waiting:
            process = waiting.pop()
            if process.pid not in found and process.pid not in self._own:
                found[process.pid] = process
                waiting += self._children.get(process.pid, ())
        return list(found.values())

    def _roots(self, connection: Connection, leader: Process | None, known: Collection[Process]) -> Iterator[Process]:
        for process in (*([] if leader is None else [leader]), *known):
            now = self._seen.get(process.pid)
            if now is not None and now.started == process.started:
                yield now
        yield from (orphan for orphan in (*self._orphans, *self._siblings) if self._belongs(orphan, connection, leader))

    def _belongs(self, orphan: Process, connection: Connection, leader: Process | None) -> bool:
        """Whether an orphan, or a child of a spawner's, was made by a connection's processes, by what it has of it."""
        if orphan.pid in self._family.orphans:
            return False  # it is known whose
        if leader is not None and leader.pid in (orphan.session, orphan.group):
            # Its number can be another's by now, who may have made a session of its own.
            now = self._seen.get(leader.pid)
            return now is None or now.started == leader.started
        has_it = self._marked.get(orphan.pid) is connection or self._has_open(orphan.pid, connection)
        # Whoever has the connection can send it to anybody who takes what he is sent: another user's process, say.
        return has_it and self._family.may_be_of(connection, orphan.pid)

    def _has_open(self, pid: int, connection: Connection) -> bool:
        found = self._sight.open.get(pid, set())
        return bool(found) and _inode_of(connection) in found

    def is_open(self, inode: int, leader: int) -> bool:
        """Whether a process of a leader's session, or an orphan, has a socket open; or may have, as it was not seen."""
        those = {process.pid for process in (*self._sessions.get(leader, ()), *self._orphans)}
        sight, siblings = self._sight, {process.pid for process in self._siblings}
        # Children of spawners that are not seen are mostly spare ones, which have nothing.
        return bool(those & (sight.refused | sight.unfinished)) or any(
            inode in sight.open.get(pid, ()) for pid in those | siblings
        )


def _inode_of(connection: Connection) -> int | None:
    return inode_of_connection(connection.endpoints)

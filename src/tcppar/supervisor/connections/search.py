"""All processes of the system at about one moment, and which of them belong to a connection or have one open."""

from collections.abc import Collection, Generator, Iterator, Mapping
from typing import Protocol

from tcppar.net import processes
from tcppar.net.diagnostics import inode_of_connection
from tcppar.net.processes import Process
from tcppar.supervisor.connection import Connection

# So many looks at what processes have open there are in one search.
_MOST_LOOKS = 100


class Family(Protocol):
    """Who knows which processes are whose."""

    def own_processes(self) -> set[int]: ...
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
    """

    def __init__(
        self,
        seen: dict[int, Process],
        family: Family,
        marks: Mapping[int, Connection],
        lingering: Mapping[int, int],
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
        self._orphans = [
            process
            for parent in family.adoptive_parents
            for process in self._children.get(parent, ())
            if process.pid not in self._own
        ]
        self._marked: dict[int, Connection] = {}
        self._open: dict[int, set[int]] = {}
        self._unseen: set[int] = set()

    def look_closer(self, last: int) -> Generator[None, None, int]:
        """Find out what processes have of connections; it pauses at each yield.

        Whoever has changed its mark can only be found by what it has open. There can be thousands, with thousands of
        descriptors each, and other connections are not to be ended later for that: so each search looks at some.

        Args:
            last: the process that the search before this one has looked at last.

        Returns:
            The one that this has looked at last.
        """
        candidates = {process.pid for leader in self._lingering.values() for process in self._sessions.get(leader, ())}
        for count, orphan in enumerate(self._orphans, 1):
            mark = processes.mark_of(orphan.pid)
            if mark is not None and mark in self._marks:
                self._marked[orphan.pid] = self._marks[mark]
            if self._lingering or orphan.pid not in self._marked:
                candidates.add(orphan.pid)
            if count % _MOST_LOOKS == 0:
                yield
        if not candidates:
            return last
        wanted = {inode for each in self._marks.values() if (inode := _inode_of(each)) is not None} | {*self._lingering}
        left = _MOST_LOOKS
        for pid in sorted(candidates, key=lambda pid: (pid <= last, pid)):
            if left > 0:
                last = pid
                left -= yield from self._look_at_sockets(pid, wanted)
                yield
            else:
                self._unseen.add(pid)
        return last

    def _look_at_sockets(self, pid: int, wanted: set[int]) -> Generator[None, None, int]:
        found = self._open[pid] = set[int]()
        looks = 1
        try:
            for inode in processes.sockets_of(pid):
                if inode is not None:
                    found |= {inode} & wanted
                    continue
                looks += 1
                if looks > processes.MOST_LOOKS:
                    self._unseen.add(pid)
                    break
                yield
        except PermissionError:
            self._unseen.add(pid)
        return looks

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
        yield from (orphan for orphan in self._orphans if self._belongs(orphan, connection, leader))

    def _belongs(self, orphan: Process, connection: Connection, leader: Process | None) -> bool:
        """Whether an orphan was made by a connection's processes, by what it has of it."""
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
        return bool(self._open.get(pid)) and _inode_of(connection) in self._open[pid]

    def is_open(self, inode: int, leader: int) -> bool:
        """Whether a process of a leader's session, or an orphan, has a socket open; or may have, as it was not seen."""
        those = {process.pid for process in (*self._sessions.get(leader, ()), *self._orphans)}
        return bool(those & self._unseen) or any(inode in self._open.get(pid, ()) for pid in those)


def _inode_of(connection: Connection) -> int | None:
    return inode_of_connection(connection.endpoints)

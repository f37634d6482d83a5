"""Ending the processes of connections that a rule ends: SIGTERM, and SIGKILL to whatever is left when its time is over.

Nothing that a child does may keep it from that end. So nobody is asked whose processes are meant: neither the child,
nor its spawner, which runs as the same user and can be stopped, or lie. What is believed is the kernel. A process that
a spawner named is signalled if its parent is that spawner, or if it has come to us as an orphan and the service's user
could have signalled it as well. From there on all processes are looked through, some at a time, for what belongs to it:
its descendants, whatever groups or sessions they have gone to; what is left of its session; and orphans, or children of
a spawner that it does not know, that have its connection's mark (mark.py) or the connection itself open, if the
service's user could have signalled them. They are noted, and looked for again, until none is left. Nothing of this
reads the memory of a process, which it can make as large and as slow as it likes, and however much it has open, others
are served meanwhile.
"""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tcppar.mark import mark_of
from tcppar.net import processes
from tcppar.net.processes import Process
from tcppar.policy.life import State
from tcppar.records import Ended
from tcppar.supervisor.connection import Connection
from tcppar.supervisor.connections.open_sockets import OpenSockets
from tcppar.supervisor.connections.search import Family, Search
from tcppar.supervisor.connections.table import Table
from tcppar.supervisor.core import Core

# A look at a process takes some 10 microseconds; with thousands of them, clients must not wait for it.
_LOOKS_AT_ONCE = 128
_PAUSE = 0.002
# One search serves all connections that are being ended, and is no tenth of the time.
_FIRST_SEARCH = 0.02
_NEXT_SEARCH = 0.2
_SHARE_OF_TIME = 10
# After SIGKILL: so many searches until its spawner, which does not report the end, is given up; and until nobody can
# do anything any more (a process in an uninterruptible sleep takes no signal).
_UNREPORTED = 3
_HOPELESS = 50
# When all are ended that were found: so many searches for others, who may have it behind 200,000 other descriptors.
_MOST_DOUBTS = 20
# The same in seconds, where processes cannot be searched.
_UNREPORTED_TIME = 1.0
_HOPELESS_TIME = 10.0
# A stopped process takes SIGTERM only when it continues; SIGCONT does nothing to others (as systemd.kill(5)).
_REQUEST = (signal.SIGTERM, signal.SIGCONT)
_UNTOLD = "it does not report the end of a child"


@dataclass(slots=True, eq=False)
class _Ending:
    """One connection that is being ended, and what is known of its processes.

    Attributes:
        leader: the process that has the connection; None while nothing proves which one that is.
        known: processes that belong to it, by number.
        searches: how many there were since SIGKILL.
        over: whether its leader has ended.
        doubtful: when nobody was found any more, who could not be seen to the end; less those that were since.
        doubts: how many searches there were for them.
    """

    connection: Connection
    kill_at: float
    leader: Process | None = None
    known: dict[int, Process] = field(default_factory=dict)
    searches: int = 0
    over: bool = False
    doubtful: set[int] | None = None
    doubts: int = 0


@dataclass(frozen=True, slots=True)
class _Asked:
    """Who wants to see a search, and what for."""

    inode: int
    leader: int
    on_search: Callable[[Search], None]


class Enforcer:
    """Ends them.

    Args:
        family: the reaper.
    """

    def __init__(self, core: Core, table: Table, family: Family) -> None:
        self._core = core
        self._table = table
        self._family = family
        self._endings: dict[int, _Ending] = {}
        self._asked: list[_Asked] = []
        self._search: Iterator[None] | None = None
        self._searched_at = 0.0
        self._duration = 0.0  # of the last search, without its pauses
        self._sockets = OpenSockets()

    def __len__(self) -> int:
        return len(self._endings)

    # What a rule asks for.

    def end(self, connection: Connection, patience: float) -> None:
        """Ask the processes of a connection to end, and end them after so many seconds."""
        number = connection.number
        if number in self._endings:
            return
        ending = self._endings[number] = _Ending(connection, self._core.later(patience))
        for number in _REQUEST:
            self._signal_leader(ending, number)
        self._core.timers.at(ending.kill_at, lambda: self._kill(ending))
        if self._core.features.pidfds:
            self._search_soon(_FIRST_SEARCH)

    def kill(self, connection: Connection) -> None:
        """End them at once."""
        ending = self._endings.setdefault(connection.number, _Ending(connection, self._core.now))
        ending.kill_at = self._core.now
        self._kill(ending)

    def on_end(self, connection: Connection) -> None:
        """The process that had the connection has ended; others may be left."""
        if (ending := self._endings.get(connection.number)) is not None:
            ending.over = True
            if self._core.features.pidfds:
                self._search_soon(_FIRST_SEARCH)
            else:
                del self._endings[connection.number]

    def _kill(self, ending: _Ending) -> None:
        if self._endings.get(ending.connection.number) is not ending:
            return
        # One that is known is ended by the search, with all that it has made: dead, it would lead to them no more.
        if not ending.over and ending.leader is None:
            self._signal_leader(ending, signal.SIGKILL)
        if self._core.features.pidfds:
            self._search_soon(_FIRST_SEARCH)
        else:
            self._core.timers.at(self._core.later(_UNREPORTED_TIME), lambda: self._ask_why(ending))

    def _ask_why(self, ending: _Ending) -> None:
        if not ending.over:
            self._family.give_up_holder(ending.connection, _UNTOLD)
            self._core.timers.at(self._core.later(_HOPELESS_TIME), lambda: self._lose_hope(ending, 1))

    def _signal_leader(self, ending: _Ending, number: signal.Signals) -> None:
        """The process that has the connection, and its group: without a search, for a stop can end thousands."""
        connection = ending.connection
        if connection.holder is not None:
            connection.holder.prepare_for_signal()
        if ending.leader is None:
            ending.leader = self._proven(connection)
        try:
            if ending.leader is not None and processes.send(ending.leader, number, to_group=True):
                return
        except OSError as error:
            self._tell_shortage(error)
        if connection.holder is not None and connection.holder.can_deliver:
            connection.holder.deliver(connection, number)
        elif not self._core.features.pidfds and self._family.user_of(connection) == os.geteuid():
            # Nothing proves whose number it is by now; but it was its user's to signal, and so are all whom we can.
            _try_group(connection.pid, number)

    def _proven(self, connection: Connection) -> Process | None:
        """The process that is said to have a connection, if the kernel says what makes it ours to signal."""
        if not self._core.features.pidfds or (process := processes.look(connection.pid)) is None:
            return None
        holder = connection.holder
        if holder is not None and holder.maker_pid and process.parent == holder.maker_pid:
            return process
        if process.parent not in self._family.adoptive_parents or process.pid in self._family.own_processes():
            return None
        return process if self._family.may_be_of(connection, process.pid) else None

    def _tell_shortage(self, error: OSError) -> None:
        self._core.fault(("enforcer",), "signal a process", error.errno or 0, "tried again until it succeeds")

    # Searching.

    def ask(self, inode: int, leader: int, on_search: Callable[[Search], None]) -> None:
        """Have the next search shown, once: one that knows who of a leader's session, and of orphans, has a socket."""
        self._asked.append(_Asked(inode, leader, on_search))
        self._search_soon(_FIRST_SEARCH)

    def _search_soon(self, seconds: float) -> None:
        if self._search is None:
            self._search = self._looks()
            earliest = self._searched_at + min(self._duration, _NEXT_SEARCH) * _SHARE_OF_TIME
            self._duration = 0.0
            self._core.timers.at(max(self._core.later(seconds), earliest), self._go_on)

    def _go_on(self) -> None:
        assert self._search is not None
        begun = self._core.later(0)
        paused = any(True for _ in self._search)  # one step of it
        self._duration += self._core.later(0) - begun
        if paused:
            self._core.timers.at(self._core.later(_PAUSE), self._go_on)
            return
        self._search = None
        self._searched_at = self._core.later(0)
        if self._endings or self._asked:
            self._search_soon(_NEXT_SEARCH)
        else:
            self._sockets.forget()

    def _looks(self) -> Iterator[None]:
        """One search; it pauses at each yield."""
        seen: dict[int, Process] = {}
        endings = list(self._endings.values())
        asked, self._asked = self._asked, []
        makers = self._family.makers()
        for count, pid in enumerate(processes.numbers(), 1):
            if (process := processes.look(pid)) is not None and process.lives:
                seen[pid] = process
            if count % _LOOKS_AT_ONCE == 0:
                yield
        prefix = self._core.id_prefix
        marks = {mark_of(prefix, ending.connection.number): ending.connection for ending in endings}
        search = Search(seen, self._family, marks, {each.inode: each.leader for each in asked}, makers)
        yield from search.look_closer(self._sockets)
        for each in asked:
            each.on_search(search)
        for count, ending in enumerate(endings, 1):
            self._act(ending, search)
            if count % (_LOOKS_AT_ONCE // 4) == 0:
                yield

    def _act(self, ending: _Ending, search: Search) -> None:
        """Signal what a search has found of a connection's processes, and see whether it is over."""
        if ending.leader is None:
            ending.leader = self._proven(ending.connection)
        found = search.members(ending.connection, ending.leader, ending.known.values())
        killing = self._core.now >= ending.kill_at
        for process in found:
            if killing or (process.pid not in ending.known and process is not ending.leader):
                for number in (signal.SIGKILL,) if killing else _REQUEST:
                    self._signal(process, number, ending)
        ending.known = {process.pid: process for process in found}
        if ending.over and not found and self._is_beyond_doubt(ending, search):
            self._endings.pop(ending.connection.number, None)
        elif killing and not (ending.over and not found):
            ending.searches += 1
            self._see_through(ending, found)

    @staticmethod
    def _is_beyond_doubt(ending: _Ending, search: Search) -> bool:
        """Whether nobody is left who has more open than one search could look at, and may have the connection too."""
        doubtful = search.unfinished if ending.doubtful is None else ending.doubtful & search.unfinished
        ending.doubtful = doubtful
        ending.doubts += 1
        return not doubtful or ending.doubts >= _MOST_DOUBTS

    def _signal(self, process: Process, number: signal.Signals, ending: _Ending) -> None:
        leader = ending.leader
        if number in _REQUEST and leader is not None and process.group == leader.pid:
            return  # it went to the group
        try:
            processes.send(process, number)
        except OSError as error:
            self._tell_shortage(error)

    def _see_through(self, ending: _Ending, found: list[Process]) -> None:
        """SIGKILL was sent, and it is not over."""
        connection = ending.connection
        if not ending.over and not found:
            self._end_tracer(connection)
        if not ending.over and ending.searches == _UNREPORTED:
            self._family.give_up_holder(connection, _UNTOLD)
        if ending.searches >= _HOPELESS:
            self._lose_hope(ending, len(found))

    def _end_tracer(self, connection: Connection) -> None:
        """It has ended, and its spawner has not heard of it: whoever traces it does so first, and may never."""
        tracer = processes.look(processes.tracer_of(connection.pid))
        if tracer is None or tracer.pid in self._family.own_processes():
            return
        user = self._family.user_of(connection)
        if user != os.getuid() and user in processes.users_of(tracer.pid):
            processes.send(tracer, signal.SIGKILL)

    def _lose_hope(self, ending: _Ending, count: int) -> None:
        """Its processes cannot be ended, or nobody tells that they have: go on without them."""
        connection = ending.connection
        if self._endings.pop(connection.number, None) is not ending:
            return
        told = f"giving up: {count} processes of connection {self._table.id_of(connection)} cannot be ended"
        self._core.fault(("hopeless", connection.service.name), "kill", 0, told, connection.service.name)
        if connection.state is State.TAKEN:
            if connection.holder is not None:
                connection.holder.children.pop(connection.number, None)
            connection.service.end(connection, Ended(connection.number, None, 0.0, None))


def _try_group(pid: int, number: signal.Signals) -> None:
    try:
        os.killpg(pid, number)
    except OSError:
        pass  # ended already, or somebody else's now

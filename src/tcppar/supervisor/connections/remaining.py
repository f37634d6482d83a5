"""Who of a connection's processes is left when the one that had it has ended.

That one need not be the last to write. What wraps a program and copies (recordio, a TLS wrapper) becomes the program,
and leaves a process that has the connection, and a pipe full of the reply. So the end of the connection is the end of
all: of the leader's group, of its session, and of whoever else has the connection open.

Nearly always nobody is left, and that is known by one system call and by the log's end, which was read already. If
somebody is, it mostly is for a moment, in which the same is asked again. Who stays longer may be a daemon that has
nothing to do with the connection any more; so after that all processes are looked through for it.
"""

from collections.abc import Callable
from typing import Protocol

from tcppar.net import processes
from tcppar.supervisor.connection import Connection, Log
from tcppar.supervisor.core import Core
from tcppar.supervisor.snapshot import inode_of

# It is looked again when so much more of the time has passed that was waited, and no more often and no more seldom.
_SHARE_OF_TIME = 1 / 4
_SHORTEST_PAUSE = 0.001
_LONGEST_PAUSE = 0.5
# Who only has to empty a pipe is gone by then. If a search finds somebody, the next is when twice the time has passed.
_BEFORE_SEARCH = 0.03
_LONGEST_UNTIL_NEXT = 2.0
# Between two looks of one search, a process can hand the connection to one that was not there yet.
_ENOUGH_SEARCHES = 2


class Search(Protocol):
    """All processes at about one moment."""

    def is_open(self, inode: int, leader: int) -> bool: ...


class Searcher(Protocol):
    """Who looks through all processes, and calls back."""

    def ask(self, inode: int, leader: int, tell: Callable[[Search], None], /) -> None: ...


class Remaining:
    """Those of one connection.

    Args:
        leader: the process that had it, and that led their session; 0 if that goes on without the connection, and
            nobody else is known.
        log: where their descriptors 2 lead, if that is only theirs; it ends with the last of them.
        inode: of the connection.
        searched_first: nothing is known of the log, so that only a search shows whether somebody is left.
    """

    def __init__(
        self,
        core: Core,
        searcher: Searcher,
        leader: int,
        inode: int,
        log: Log | None = None,
        *,
        searched_first: bool = False,
    ) -> None:
        self._core = core
        self._searcher = searcher
        self.leader = leader
        self._inode = inode
        self._log = log
        self._searched_first = searched_first and core.features.pidfds
        self._since = core.later(0)
        self._searches = 0
        self._is_sought = False
        self._search_after = _BEFORE_SEARCH

    @property
    def is_nobody(self) -> bool:
        """Whether there is nobody left, as far as can be known now."""
        if not self.leader or self._searches == _ENOUGH_SEARCHES:
            return True
        if self._searched_first or (self._log is not None and self._log.is_open):
            return False
        if self._core.features.pidfds:
            return not processes.number_is_used(self.leader, self._core.waiter.descriptors[-1])
        return not processes.group_is_used(self.leader)

    def pause(self) -> float:
        """For how many seconds to wait until the next look."""
        waited = self._waited
        if waited >= self._search_after and not self._is_sought and self._core.features.pidfds:
            self._is_sought = True
            self._searcher.ask(self._inode, self.leader, self._on_search)
        return min(max(waited * _SHARE_OF_TIME, _SHORTEST_PAUSE), _LONGEST_PAUSE)

    @property
    def _waited(self) -> float:
        return self._core.later(0) - self._since

    def _on_search(self, search: Search) -> None:
        self._is_sought = False
        if search.is_open(self._inode, self.leader):
            self._searches = 0
            self._search_after = self._waited + min(self._waited, _LONGEST_UNTIL_NEXT)
        else:
            self._searches += 1


def remaining_of(connection: Connection, copy: int, core: Core, searcher: Searcher) -> Remaining:
    """Those of a connection whose process has ended, or its conversation, if that is a worker's.

    Args:
        copy: our descriptor of it.
    """
    holder = connection.holder
    is_workers = holder is not None and holder.serves_as == connection.pid != 0
    try:
        inode = inode_of(copy)
    except OSError:
        inode = 0  # memory is short: then nobody is found who has it
    return Remaining(core, searcher, 0 if is_workers else connection.pid, inode, connection.log)

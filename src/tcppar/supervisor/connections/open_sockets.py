"""Which sockets processes have open, looked at in pieces: a process can have a million descriptors, in many tables."""

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field

from tcppar.net import processes
from tcppar.net.processes import Process

# So many looks at what processes have open there are in one search, each of some tenths of a millisecond.
_MOST_LOOKS = 100
# After so many it is another process's turn: none is hidden behind one that has more open.
_LOOKS_IN_A_TURN = 20
# So many sockets of a process are noted, of which some may be wanted only by a later search: two megabytes.
_MOST_NOTED = 20_000
# Each holds two descriptors of ours.
_MOST_PLACES = 16


@dataclass(slots=True, eq=False)
class _Walk:
    """Through what one process has open; it ends in a later search than it began in, if need be.

    Attributes:
        wanted: the sockets that it has looked for from the beginning, by inode.
        found: those of them that the process has, and others, which may be wanted before it is over.
    """

    process: Process
    wanted: frozenset[int]
    sockets: Iterator[int | None]
    found: set[int] = field(default_factory=set)
    turns: int = 0

    def go_on(self, looks: int) -> Generator[None, None, bool]:
        """Look so often; whether it is over."""
        for inode in self.sockets:
            if inode is not None:
                if inode in self.wanted or len(self.found) < _MOST_NOTED:
                    self.found.add(inode)
                continue
            looks -= 1
            yield
            if not looks:
                return False
        return True


@dataclass(frozen=True, slots=True)
class Sight:
    """What one search has seen of some processes.

    Attributes:
        open: the wanted sockets that they have, by process.
        refused: processes of which the system does not show it.
        unfinished: processes that were not seen to the end.
    """

    open: dict[int, set[int]] = field(default_factory=dict)
    refused: set[int] = field(default_factory=set)
    unfinished: set[int] = field(default_factory=set)


class OpenSockets:
    """Looks at what processes have open, and goes on in the next search where this one has stopped."""

    def __init__(self) -> None:
        self._last = 0
        self._walks: dict[int, _Walk] = {}

    def look(self, candidates: Iterable[Process], wanted: frozenset[int]) -> Generator[None, None, Sight]:
        """Look at processes; it pauses at each yield.

        Args:
            wanted: the inodes of the sockets that are looked for.
        """
        sight, left = Sight(), _MOST_LOOKS
        waiting = deque(self._walk(process, wanted) for process in self._in_turn(candidates))
        while waiting and left > 0:
            walk = waiting.popleft()
            pid = self._last = walk.process.pid
            left -= 1
            walk.turns += 1
            try:
                is_over = yield from walk.go_on(_LOOKS_IN_A_TURN)
                sight.open[pid] = walk.found & wanted
            except PermissionError:
                sight.refused.add(pid)
                continue
            if not is_over:
                left -= _LOOKS_IN_A_TURN
                waiting.append(walk)
            elif len(walk.found) >= _MOST_NOTED and not wanted <= walk.wanted:
                sight.unfinished.add(pid)  # what it has passed by can be what is wanted since
            yield
        sight.unfinished.update(walk.process.pid for walk in waiting)
        begun = sorted((walk for walk in waiting if walk.turns), key=lambda walk: -walk.turns)
        self._walks = {walk.process.pid: walk for walk in begun[:_MOST_PLACES]}
        sight.open.update((walk.process.pid, walk.found & wanted) for walk in begun)
        return sight

    def forget(self) -> None:
        """Nobody looks for anything any more: keep nothing open."""
        self._walks = {}

    def _in_turn(self, candidates: Iterable[Process]) -> list[Process]:
        """Those first that the search before this one did not come to."""
        return sorted(candidates, key=lambda process: (process.pid <= self._last, process.pid))

    def _walk(self, process: Process, wanted: frozenset[int]) -> _Walk:
        walk = self._walks.get(process.pid)
        if walk is not None and walk.process.started == process.started:
            return walk
        return _Walk(process, wanted, iter(processes.sockets_of(process.pid)))

"""Ending connections on which nothing happens any more, whatever program has them (policy/idleness.py)."""

import errno
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tcppar.net.diagnostics import Diagnostics
from tcppar.policy.idleness import BROKEN, Limits, Sight, Vigil
from tcppar.policy.life import EndedBy
from tcppar.policy.timers import Timer
from tcppar.records import Family
from tcppar.supervisor.connection import Connection
from tcppar.supervisor.core import Core
from tcppar.supervisor.snapshot import inode_of

# Those that are due are looked at in rounds, one wake-up for many: this part of a period they may be late for it.
_LATENESS = 1 / 16
_SHORTEST_LATENESS = 0.01
_LONGEST_LATENESS = 1.0
# A look takes some 10 microseconds. A round of thousands is parted, lest a client who comes meanwhile waits for it.
_LOOKS_AT_ONCE = 64
_PAUSE = 0.005
_TRIED_AGAIN = "wait until it succeeds"


@dataclass(slots=True)
class _Watched:
    """A connection, what is remembered of it, and where it is looked for; None until it was found once."""

    connection: Connection
    vigil: Vigil
    interface: int | None = None


class IdleWatch:
    """The connections of a service that have a child, looked at when one of them could be due to end.

    Args:
        service: its name.
        listeners: the descriptors of its listeners.
        end: ends a connection by a rule.

    Attributes:
        on: whether there are limits, and the means to keep them.
    """

    def __init__(
        self,
        service: str,
        core: Core,
        listeners: Callable[[], Iterable[int]],
        end: Callable[[Connection, EndedBy], None],
    ) -> None:
        self.on = False
        self._service = service
        self._core = core
        self._listeners = listeners
        self._end = end
        self._limits = Limits()
        self._watched: dict[int, _Watched] = {}
        self._due: deque[int] = deque()
        self._timer: Timer | None = None
        self._ports_seen: set[int] = set()

    def take_limits(self, limits: Limits, taken: Iterable[Connection]) -> None:
        """Put limits in force.

        Args:
            taken: connections that have a child already. If the limits are others than before, their time begins now.
        """
        if limits == self._limits:
            return
        self._limits = limits
        self.on = bool(limits) and self._core.features.socket_diagnostics
        if limits and not self.on:
            self._tell(errno.EOPNOTSUPP, "have no effect on this system")
        self._watched.clear()
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.on:
            for connection in taken:
                self.begin(connection)

    def begin(self, connection: Connection) -> None:
        """A connection has a child."""
        # Of a Unix socket the system does not tell when it was used. Only a listener of the service manager's can be
        # one here: of any other the configuration tells, and is refused.
        if connection.endpoints.family is Family.UNIX:
            self._tell(errno.EOPNOTSUPP, "have no effect on connections of Unix sockets")
            return
        self._watched[connection.number] = _Watched(connection, Vigil(self._limits, self._core.now))
        self._set_timer()

    def forget(self, connection: Connection) -> None:
        """Its child has ended."""
        self._watched.pop(connection.number, None)

    def _set_timer(self) -> None:
        """Let the next round begin when somebody is due, unless one is awaited or under way."""
        if self._timer is None and self._watched:
            period = self._limits.period
            lateness = min(max(period * _LATENESS, _SHORTEST_LATENESS), _LONGEST_LATENESS)
            first = min(watched.vigil.due_at for watched in self._watched.values())
            # Whoever comes until then is not due before a period from now.
            at = max(min(first, self._core.now + period), self._core.now + lateness)
            self._timer = self._core.timers.at(at, self._begin_round)

    def _begin_round(self) -> None:
        now = self._core.now
        self._due.extend(number for number, watched in self._watched.items() if watched.vigil.due_at <= now)
        self._go_round()

    def _go_round(self) -> None:
        self._timer = None
        try:
            diagnostics = Diagnostics()
        except OSError as error:
            self._tell(error.errno or 0, _TRIED_AGAIN)
            self._due.clear()  # who was due still is, in the next round
        else:
            with diagnostics:
                for _ in range(min(len(self._due), _LOOKS_AT_ONCE)):
                    self._look_at(self._due.popleft(), diagnostics)
        if self._due:
            self._timer = self._core.timers.at(self._core.later(_PAUSE), self._go_round)
        else:
            self._set_timer()

    def _look_at(self, number: int, diagnostics: Diagnostics) -> None:
        watched = self._watched.get(number)
        if watched is None:
            return  # it has ended meanwhile
        if watched.connection.ended_by is not None:
            del self._watched[number]  # by another rule, which takes its course
            return
        try:
            sight = self._sight_of(watched, diagnostics)
        except OSError as error:
            self._tell(error.errno or 0, _TRIED_AGAIN)
            watched.vigil.due_at = self._core.now + self._limits.period
            return
        rule = None if sight is None else watched.vigil.look(sight, self._limits, self._core.now)
        if sight is None or rule is not None:
            del self._watched[number]
        if rule is not None:
            self._end(watched.connection, rule)

    def _sight_of(self, watched: _Watched, diagnostics: Diagnostics) -> Sight | None:
        """What can be said of a connection; None if nothing can, nor ever will.

        That the kernel knows no such connection means that it is broken, but only where it would know it: a listener
        that we have inherited can be another network namespace's. It would if it has known another one of that port, or
        finds our listener where the connection has been. The latter counts after a start or an upgrade, when the first
        connections may be broken before any was looked at.

        Raises:
            OSError: the kernel does not answer.
        """
        endpoints = watched.connection.endpoints
        if watched.interface is None:
            watched.interface = diagnostics.interface_of(endpoints)
        if watched.interface is not None:
            self._ports_seen.add(endpoints.local_port)
            return diagnostics.look(endpoints, watched.interface) or BROKEN
        if endpoints.local_port in self._ports_seen:
            return BROKEN
        if diagnostics.would_find(endpoints, {inode_of(listener) for listener in self._listeners()}):
            self._ports_seen.add(endpoints.local_port)
            return BROKEN
        self._tell(errno.ENOENT, "have no effect on connections that the system does not report")
        return None

    def _tell(self, error: int, consequence: str) -> None:
        told = f"idle_timeout and end_when_client_gone {consequence}"
        self._core.fault(("idleness", self._service), "inspect connections", error, told, self._service)

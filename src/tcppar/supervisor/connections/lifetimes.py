"""The longest time that a service's connections may last (`max_lifetime`)."""

from collections.abc import Callable

from tcppar.policy.life import EndedBy
from tcppar.supervisor.connection import Connection
from tcppar.supervisor.core import Core


class Lifetimes:
    """Of one service.

    Args:
        end: ends a connection by a rule.

    Attributes:
        on: whether there is a limit.
    """

    def __init__(self, core: Core, end: Callable[[Connection, EndedBy], None]) -> None:
        self._core = core
        self._end = end
        self._limit: float | None = None
        self._aging: dict[int, Connection] = {}
        self.on = False

    def take_limit(self, limit: float | None) -> None:
        """Go on with another limit, in seconds; None for none."""
        self._limit = limit
        self.on = limit is not None
        self._watch()

    def begin(self, connection: Connection) -> None:
        """A child has it."""
        self._aging[connection.number] = connection
        if len(self._aging) == 1:
            self._watch()

    def forget(self, connection: Connection) -> None:
        """It has ended."""
        self._aging.pop(connection.number, None)

    def _watch(self) -> None:
        """Set the timer for the connection that is due first: the eldest, for all have the same time."""
        if self._limit is not None and self._aging:
            eldest = next(iter(self._aging.values()))
            self._core.timers.at(eldest.accepted_at + self._limit, self._end_the_aged)

    def _end_the_aged(self) -> None:
        if self._limit is None:
            return
        for connection in list(self._aging.values()):
            if connection.accepted_at + self._limit > self._core.now:
                break
            del self._aging[connection.number]
            self._end(connection, EndedBy.MAX_LIFETIME)
        self._watch()

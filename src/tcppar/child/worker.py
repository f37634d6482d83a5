"""A worker of a pool: takes connections from its line to the supervisor, one at a time, and serves each to its end.

As all that handlers' processes are forked from, it imports next to nothing (see `conversation.py`).
"""

from __future__ import annotations

import os
import time

from tcppar.child.own_path import own
from tcppar.child.process import flush

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from tcppar.child.handlers import Handler
    from tcppar.endpoints import Ends

    Given = tuple[int, int, Ends, int, bool]
    """A connection's descriptor, below 0 if that could not be received; its number, both its ends, and which attempt to
    offer it this is; and whether this very offer may have been sent before (`records.Offer`).
    """

    class Line(Protocol):
        """To the supervisor. What is said where nobody listens any more returns False."""

        tells: bool
        """Whether each connection that is taken is to be reported."""

        def say_ready(self, pid: int, /) -> bool: ...
        def next(self) -> Given | None:
            """The next connection; None if no other comes. It waits."""

        def say_lost(self, number: int, attempt: int, /) -> bool:
            """That the worker leaves, and that a connection's descriptor could not be received."""

        def say_taken(self, number: int, pid: int, /) -> bool: ...
        def say_ended(self, number: int, status: int, cpu_seconds: float, leaving: bool, /) -> bool:
            """That a connection has ended, and whether the worker leaves."""


_EXITED = 8  # an exit code stands in the second byte of a wait status


class Worker:
    """One worker.

    Args:
        service: its name.
        id_prefix: what connections' ids begin with.
        handler: what serves the connections.
        line: to the supervisor.
        most_connections: after so many it ends; None for any number.
        most_memory_kb: it ends after a connection in which its memory was larger; None for no limit.
    """

    def __init__(
        self,
        service: str,
        id_prefix: str,
        handler: Handler,
        line: Line,
        *,
        most_connections: int | None,
        most_memory_kb: int | None,
    ) -> None:
        self._service = service
        self._id_prefix = id_prefix
        self._handler = handler
        self._line = line
        self._most_connections = most_connections
        self._most_memory_kb = most_memory_kb
        self._served = 0
        self._last_offer = (0, 0)
        self._cpu = 0.0
        self._pid = os.getpid()

    def run(self) -> None:
        """Serve until told to retire, until there is reason to be replaced, or until the supervisor is gone."""
        self._cpu = time.process_time()
        goes_on = self._line.say_ready(self._pid)
        while goes_on and (given := self._line.next()) is not None:
            goes_on = self._take(*given)

    def _take(self, descriptor: int, number: int, ends: Ends, attempt: int, again: bool) -> bool:
        """Take what was offered; whether it goes on."""
        if descriptor < 0:
            # It did not fit into our table, and nothing will; the supervisor has still got its own.
            self._line.say_lost(number, attempt)
            return False
        if again and (number, attempt) == self._last_offer:
            os.close(descriptor)
            return True
        self._last_offer = number, attempt
        if self._line.tells and not self._line.say_taken(number, self._pid):
            # Before the handler runs: a connection of which it was not said can be given to another worker.
            os.close(descriptor)
            return False
        return self._serve(descriptor, number, ends)

    def _serve(self, descriptor: int, number: int, ends: Ends) -> bool:
        """Serve one connection; whether it goes on after it."""
        code = self._handler.converse(descriptor, f"{self._id_prefix}-{number}", self._service, ends)
        flush()  # what was written belongs to this connection
        self._served += 1
        # Between two connections it waits, which takes no processor.
        before, self._cpu = self._cpu, time.process_time()
        leaving = self._is_to_be_replaced()
        return self._line.say_ended(number, code << _EXITED, self._cpu - before, leaving) and not leaving

    def _is_to_be_replaced(self) -> bool:
        if self._most_connections is not None and self._served >= self._most_connections:
            return True
        return self._most_memory_kb is not None and _peak_kb() > self._most_memory_kb


def _peak_kb() -> int:
    resource = own("resource")  # only for those who have a limit
    peak: int = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak
